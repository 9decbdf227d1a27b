"""Steps on disk, kept by Orbax: a step is there whole or not at all, and what is read is what was saved.

A step is a folder with items: trees of arrays, JSON values, and `digests` (JSON) of all of them. Orbax writes
in the background and renames the folder when it is complete; the digests show whether a file was changed
afterwards. No other module uses Orbax.
"""

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
import orbax.checkpoint as ocp

from rnn_jax.errors import InputError, require
from rnn_jax.files import EXPANSION, FREE, check_expansion
from rnn_jax.hashing import digest_of_arrays, digest_of_json
from rnn_jax.trees import Tree, leaves_by_path

if TYPE_CHECKING:
    from orbax.checkpoint.checkpoint_managers import PolicyCheckpointInfo

DIGESTS = "digests"


class SaveError(OSError):
    """A checkpoint could not be written, such as on a full disk. The message names the last one that was.

    >>> raise SaveError("a checkpoint cannot be written; the last one is runs/x/200")
    Traceback (most recent call last):
    ...
    rnn_jax.checkpoints.orbax_store.SaveError: a checkpoint cannot be written; the last one is runs/x/200
    """


class Manager(ocp.CheckpointManager):
    """Orbax's manager, which leaves JAX's preemption service alone.

    It would tell the service the steps that it saves, in the background too. But the service has one count of
    steps in each process, the training loop's: set back, two processes agree on a step that one has passed.
    """

    def reached_preemption(self, step: int) -> bool:
        """Returns whether a save has to be finished at once: the loop waits for its last one anyway."""
        return False


class Store:
    """Steps in one folder. Close it to wait for a write under way.

    Args:
      arrays, json: the names of the items of each kind.
      preserve: takes the steps that there are, in order, and returns those that stay; asked after each write.
    """

    def __init__(
        self,
        folder: Path,
        arrays: Collection[str],
        json: Collection[str],
        preserve: Callable[[list[int]], Collection[int]],
    ):
        self.folder, self.arrays, self.preserve = folder, arrays, preserve
        folder.mkdir(parents=True, exist_ok=True)
        # Of several processes one alone opens a store: Orbax must not wait for the others.
        alone = ocp.options.MultiprocessingOptions(active_processes={0})
        handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
        for names, handler, save, restore in (
            (
                arrays,
                ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
                ocp.args.PyTreeSave,
                ocp.args.PyTreeRestore,
            ),
            (
                [*json, DIGESTS],
                ocp.JsonCheckpointHandler(multiprocessing_options=alone),
                ocp.args.JsonSave,
                ocp.args.JsonRestore,
            ),
        ):
            for name in names:
                handlers.add(name, save, handler)
                handlers.add(name, restore, handler)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self, create=False, multiprocessing_options=alone
        )
        self.manager = Manager(folder, options=options, handler_registry=handlers)

    def should_preserve(
        self, checkpoints: "Sequence[PolicyCheckpointInfo]", *, context: object
    ) -> list[bool]:
        """Returns which steps stay: Orbax's protocol of a preservation policy."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = self.preserve(steps)
        return [step in kept for step in steps]

    def write(self, step: int, arrays: Mapping[str, Tree], json: Mapping[str, object]) -> None:
        """Writes a step in the background, unless it is there; the arrays may be donated at once.

        Raises:
          SaveError: the write before this one, or the beginning of this one, failed.
        """
        arrays = {name: _host_copy(tree) for name, tree in arrays.items()}
        digests = {name: digest_of_arrays(tree) for name, tree in arrays.items()}
        digests |= {name: digest_of_json(value) for name, value in json.items()}
        items = {name: ocp.args.PyTreeSave(tree) for name, tree in arrays.items()}
        items |= {name: ocp.args.JsonSave(value) for name, value in {**json, DIGESTS: digests}.items()}
        if step not in self.steps():
            self._writing(lambda: self.manager.save(step, args=ocp.args.Composite(**items)))

    def steps(self) -> list[int]:
        """Returns the complete steps, in order."""
        self.wait()
        return sorted(self.manager.all_steps())

    def read(self, step: int, likes: Mapping[str, Tree | None]) -> dict[str, Tree]:
        """Returns the items of a step that `likes` names.

        Args:
          likes: the names of items, each with a tree of arrays that has the structure, shapes and types to
            return; with None, arrays come as nested dicts and lists of numpy arrays. For JSON it is None.

        Raises:
          InputError: they cannot be read, or are not what was saved.
        """
        try:
            args = {name: self._restore_args(step, name, like) for name, like in likes.items()}
            args[DIGESTS] = ocp.args.JsonRestore()
            items = dict(self.manager.restore(step, args=ocp.args.Composite(**args)).items())
            digests = items.pop(DIGESTS)
            for name, item in items.items():
                digest = digest_of_arrays(item) if name in self.arrays else digest_of_json(item)
                require(digest == digests[name], f"its {name} are not what was saved")
                _check_shapes(name, item, likes[name])
        except Exception as error:  # orbax and tensorstore raise a different class for each kind of damage
            raise InputError(
                f"checkpoint {self.folder / str(step)} cannot be read: {_line(error)}"
            ) from error
        return items

    def move(self, step: int, place: Path) -> None:
        """Takes a step away, to `place`."""
        os.replace(self.folder / str(step), place)
        self.manager.reload()

    def wait(self) -> None:
        """Waits for the write under way. Raises SaveError where it failed."""
        self._writing(self.manager.wait_until_finished)

    def close(self) -> None:
        """Waits, as `wait`, and closes the folder. Raises SaveError where either failed."""
        try:
            self.wait()
        finally:
            self._writing(self.manager.close)  # Orbax tells here what failed beside what `wait` told

    def _restore_args(
        self, step: int, name: str, like: Tree | None
    ) -> ocp.args.JsonRestore | ocp.args.PyTreeRestore:
        if name not in self.arrays:
            return ocp.args.JsonRestore()
        if like is None:
            tree = self.manager.item_metadata(step)[name].tree
            folder = self.folder / str(step)
            on_disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            announced = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
            check_expansion(str(folder), announced, max(FREE, EXPANSION * on_disk))
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            return ocp.args.PyTreeRestore(restore_args=as_numpy)
        as_asked = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype), like)
        return ocp.args.PyTreeRestore(item=like, restore_args=as_asked)

    def _writing(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # as in `read`
            complete = max(self.manager.all_steps(), default=None)
            last = (
                "there is no other" if complete is None else f"the last one is {self.folder / str(complete)}"
            )
            raise SaveError(
                f"a checkpoint cannot be written to {self.folder}: {_line(error)}; {last}"
            ) from error


def _check_shapes(name: str, item: Tree, like: Tree | None) -> None:
    """Raises InputError where arrays have other shapes than those asked for, which Orbax does not compare."""
    found = leaves_by_path(item)
    for path, leaf in leaves_by_path(like).items():
        shape = found[path].shape
        require(shape == leaf.shape, f"{path} of its {name} has shape {shape}, not {leaf.shape}")


def _host_copy(tree: Tree) -> Tree:
    """Returns numpy copies: a donated buffer is overwritten while the background save still reads it."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def _line(error: Exception) -> str:
    """Returns the class and the first line of an error."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300]
