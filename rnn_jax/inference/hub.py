"""Models on the Hugging Face hub: `load("hf://user/name")` gets one, and `push_model` puts one there."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rnn_jax.errors import InputError, require
from rnn_jax.files import path_of
from rnn_jax.inference.model_card import About
from rnn_jax.inference.model_folder import FILES, SOMETIMES, TrainedModel, save_model

SCHEME = "hf://"
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def local_folder(source: str | Path) -> Path:
    """Returns the path of a folder; one named `hf://user/name` or `hf://user/name@revision` is fetched.

    Only the files of a saved model are, once: they stay in the cache of `huggingface_hub`. HF_ENDPOINT names
    another hub, HF_TOKEN or `hf auth login` opens what is private.

    Raises:
      InputError: no path, no such repository or revision, or no network; the message says what to do.

    >>> local_folder("hf://bilstm")
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: 'hf://bilstm' names no repository; give hf://user/name or hf://user/name@revision
    """
    if not str(source).startswith(SCHEME):
        return path_of(source)
    name, _, revision = str(source).removeprefix(SCHEME).partition("@")
    require(
        bool(REPOSITORY.fullmatch(name)) and (bool(revision) or "@" not in str(source)),
        f"{str(source)[:200]!r} names no repository; give hf://user/name or hf://user/name@revision",
    )
    import huggingface_hub

    with _explained(name):
        folder = Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=list(FILES),
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )
    missing = [file for file in FILES if file not in SOMETIMES and not (folder / file).is_file()]
    require(not missing, f"{source} is no model of rnn_jax: the repository has no {', '.join(missing)}")
    return folder


def push_model(model: TrainedModel, repository: str, about: About, private: bool = False) -> str:
    """Saves a model into a repository of the hub, made where there is none, and returns its address.

    Args:
      model: what `load` or `load_language_model` returned.
      repository: "user/name" on the hub.
      about: what the model card says beside the numbers.
      private: whether a repository that is made is private; one that exists stays as it is.

    Raises:
      InputError: another name, no token, one that may not write there, or no network; the message says what
        to do.
    """
    name = repository.removeprefix(SCHEME)
    require(bool(REPOSITORY.fullmatch(name)), f"repository is {repository[:200]!r}; give user/name")
    import huggingface_hub

    require(
        huggingface_hub.get_token() is not None,
        f"there is no token to write to {name} with; run `hf auth login`, or set HF_TOKEN to a token that "
        "may write",
    )
    hub = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with tempfile.TemporaryDirectory(prefix="rnn_jax-") as parent, _explained(name):
        folder = Path(parent, "model")
        save_model(model, folder, about._replace(address=f"{SCHEME}{name}"))
        hub.create_repo(name, private=private or None, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message=f"rnn_jax: the model of step {model.step}",
            delete_patterns=list(SOMETIMES),  # those of another checkpoint, which this one may not bring
        )
    return f"{SCHEME}{name}@{commit.oid}"


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns the errors of `huggingface_hub` into an InputError that names the fix."""
    from huggingface_hub import errors

    where = f"{SCHEME}{name}"
    try:
        yield
    except InputError:
        raise
    except errors.GatedRepoError as error:
        raise InputError(f"{where} is gated: ask for access on its page, then run `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{where} is not there: look at the name; if it is private, run `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{where} has no such revision; give a branch, a tag or a commit of it") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise InputError(_unreachable(where, error)) from error
    except errors.HfHubHTTPError as error:
        raise InputError(
            f"the hub refused {where}: {' '.join(str(error).split())[:500]}; a token that may write is made "
            "on the page of your access tokens"
        ) from error
    except (errors.HTTPError, RuntimeError) as error:  # as its HTTP library or an upload fails
        raise InputError(_unreachable(where, error)) from error
    except errors.HFValidationError as error:
        raise InputError(f"{where} is no name of the hub: {error}") from error


def _unreachable(where: str, error: Exception) -> str:
    return (
        f"{where} cannot be reached and is not in the cache: check the network, HF_ENDPOINT and "
        f"HF_HUB_OFFLINE ({type(error).__name__})"
    )
