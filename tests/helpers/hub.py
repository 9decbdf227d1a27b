"""A hub on this machine: those parts of the hub's HTTP API that `huggingface_hub` uses for models."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_may_write"


class Hub:
    """What is on the hub: the files of each commit of a repository, its newest commit, and what was asked."""

    def __init__(self):
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.main: dict[str, str] = {}
        self.private: set[str] = set()
        self.large: dict[str, bytes] = {}  # uploaded by Git LFS, by digest
        self.asked: list[str] = []
        self.url = ""

    def commit(self, name: str, files: dict[str, bytes | None]) -> str:
        """Changes files of a repository, None deletes one, and returns the commit."""
        changed = {**self.commits.setdefault(name, {}).get(self.main.get(name, ""), {}), **files}
        whole = {path: content for path, content in changed.items() if content is not None}
        digest = hashlib.sha1(repr(sorted(whole.items())).encode()).hexdigest()
        self.commits[name][digest], self.main[name] = whole, digest
        return digest


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def found(self, name, revision):
        """Returns the commit, or answers as the hub does where there is none that the asker may see."""
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if name not in self.hub.commits or (name in self.hub.private and not known):
            self.answer(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        commit = self.hub.main[name] if revision == "main" else revision
        if commit not in self.hub.commits[name]:
            self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            return None
        return commit

    def do_GET(self):
        self.hub.asked.append(self.path)
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, kind = "/".join(parts[2:4]), parts[4] if len(parts) > 4 else "revision"
            commit = self.found(name, parts[5] if len(parts) > 5 else "main")
            files = commit and self.hub.commits[name][commit]
            if commit and kind == "tree":
                tree = [
                    {
                        "type": "file",
                        "path": path,
                        "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest(),
                    }
                    for path, content in files.items()
                ]
                self.answer(200, tree)
            elif commit:
                siblings = [{"rfilename": path} for path in files]
                self.answer(200, {"id": name, "sha": commit, "siblings": siblings, "private": False})
        elif parts[2] == "resolve":
            name, path = "/".join(parts[:2]), "/".join(parts[4:])
            if commit := self.found(name, parts[3]):
                content = self.hub.commits[name][commit][path]
                etag = f'"{hashlib.sha1(content).hexdigest()}"'
                self.answer(200, content, ETag=etag, X_Repo_Commit=commit)

    do_HEAD = do_GET

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.large[hashlib.sha256(content).hexdigest()] = content
        self.answer(200)

    def do_POST(self):
        self.hub.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.strip("/").split("/")
        if parts[:2] == ["api", "validate-yaml"]:
            self.answer(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(403, {"error": "You don't have the rights to write here"})
        elif parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.hub.commits:
                self.answer(409, {"error": "It exists already", "url": f"{self.hub.url}/{name}"})
                return
            self.hub.private |= (
                {name} if asked.get("private") or asked.get("visibility") == "private" else set()
            )
            self.hub.commit(name, {".gitattributes": b"*.safetensors filter=lfs"})
            self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name})
        elif parts[4:5] == ["preupload"]:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif parts[-1] == "batch":
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif parts[4:5] == ["commit"]:
            name, files = "/".join(parts[2:4]), {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.hub.large[value["oid"]]
                elif line["key"] == "deletedFile":
                    files[value["path"]] = None
            commit = self.hub.commit(name, files)
            self.answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})


@contextmanager
def hub_here() -> Iterator[Hub]:
    """Gives a hub that listens on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
