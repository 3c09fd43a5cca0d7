"""Generate the Python stubs and the list of the contract's surface from the protos.

    python -m tools.gen            write client/sojourn/v1 and protos/sojourn/v1/surface.txt
    python -m tools.gen --check    compare with what is committed, write nothing

The folder under protos/ equals the import path, so the generated modules import each other as
`sojourn.v1.session_pb2` and nothing is patched afterwards.

The protos import `buf/validate/validate.proto` for their validation rules, but the generated
code must not: the descriptor pool is one per process, and a second package that ships that file
would crash the import. So the import is taken out of the descriptor set before code is made from
it. The rules stay where they were, in the bytes of the options, and protovalidate reads them
there with its own copy of the file. docs/decisions/0002-stubs-and-validation.md tells the story.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from tools.drift import differences, replace_folder
from tools.protos import PACKAGE_DIR, PROTOS, ROOT, compile_protos, own_files, protoc
from tools.surface import render

STUBS = ROOT / "client" / PACKAGE_DIR
SURFACE_NAME = "surface.txt"
STRIPPED_IMPORT = "buf/validate/validate.proto"
INIT = '"""The protobuf and gRPC stubs of `sojourn.v1`, written by `make gen`."""\n'

# Fewer files than this would mean that the generator lost some: ten protos make 31.
MINIMUM_STUBS = 25


def without_import(image: FileDescriptorSet, name: str = STRIPPED_IMPORT) -> FileDescriptorSet:
    """Return the set without the file `name`, and without every import of it.

    Options that the file defined stay as unknown fields, which protoc passes on unchanged.
    """
    stripped = FileDescriptorSet()
    for file in image.file:
        if file.name != name:
            stripped.file.append(_drop_dependency(file, name))
    return stripped


def _drop_dependency(file: FileDescriptorProto, name: str) -> FileDescriptorProto:
    if name not in file.dependency:
        return file
    if file.public_dependency or file.weak_dependency:
        raise SystemExit(f"{file.name}: public or weak imports refer to imports by position")
    copy = FileDescriptorProto()
    copy.CopyFrom(file)
    copy.dependency.remove(name)
    return copy


def generate_stubs(image: FileDescriptorSet, target: Path, package_dir: str = PACKAGE_DIR) -> None:
    """Write the stubs to `target`, an empty folder that stands for the import root."""
    own = own_files(image, package_dir)
    with tempfile.TemporaryDirectory() as temporary:
        stripped = Path(temporary) / "stripped.binpb"
        stripped.write_bytes(without_import(image).SerializeToString(deterministic=True))
        source = f"--descriptor_set_in={stripped}"
        protoc(
            source,
            _plugin("mypy"),
            f"--python_out={target}",
            f"--mypy_out={target}",
            *(file.name for file in own),
        )
        services = [file.name for file in own if file.service]
        if services:
            protoc(
                source,
                _plugin("mypy_grpc"),
                f"--grpc_python_out={target}",
                f"--mypy_grpc_out={target}",
                *services,
            )
    (target / package_dir / "__init__.py").write_text(INIT, encoding="utf-8")


def _plugin(name: str) -> str:
    # Beside the interpreter, not on PATH: the virtual environment need not be activated.
    program = f"protoc-gen-{name}"
    return f"--plugin={program}={Path(sys.executable).parent / program}"


def check_surface(text: str, committed: Path) -> list[str]:
    """Return a sentence if the committed list of the surface is not `text`."""
    if committed.exists() and committed.read_bytes() == text.encode():
        return []
    return [f"{committed} differs from what the protos say"]


def main(arguments: list[str] | None = None) -> int:
    """Write or check the generated files; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    parser.add_argument("--protos", type=Path, default=PROTOS, help="the folder of the protos")
    parser.add_argument("--stubs", type=Path, default=STUBS, help="the folder of the stubs")
    parser.add_argument("--minimum", type=int, default=MINIMUM_STUBS, help="fewest files to expect")
    options = parser.parse_args(arguments)

    image = compile_protos(options.protos)
    surface = render(own_files(image))
    surface_file = options.protos / PACKAGE_DIR / SURFACE_NAME
    with tempfile.TemporaryDirectory() as temporary:
        generate_stubs(image, Path(temporary))
        fresh = Path(temporary) / PACKAGE_DIR
        if options.check:
            problems = [
                *differences(fresh, options.stubs, minimum=options.minimum),
                *check_surface(surface, surface_file),
            ]
            for problem in problems:
                print(problem, file=sys.stderr)
            if problems:
                print("run `make gen` and commit what it writes", file=sys.stderr)
            return 1 if problems else 0
        replace_folder(fresh, options.stubs)
        surface_file.write_text(surface, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
