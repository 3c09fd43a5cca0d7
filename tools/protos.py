"""Compile the protos to a descriptor set and run protoc: what every proto tool shares.

Everything here runs in the generator's virtual environment, which holds `grpc_tools`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE_DIR = "sojourn/v1"


def protoc(*arguments: str) -> None:
    """Run protoc; end the program with protoc's own message if it fails, else stay quiet."""
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)


def compile_protos(protos: Path = PROTOS, package_dir: str = PACKAGE_DIR) -> FileDescriptorSet:
    """Compile every proto of the package, with imports and comments, to one descriptor set."""
    names = sorted(f"{package_dir}/{path.name}" for path in (protos / package_dir).glob("*.proto"))
    if not names:
        raise SystemExit(f"no .proto file in {protos / package_dir}")
    with tempfile.TemporaryDirectory() as temporary:
        image = Path(temporary) / "image.binpb"
        protoc(
            f"-I{protos}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={image}",
            *names,
        )
        return FileDescriptorSet.FromString(image.read_bytes())


def own_files(
    image: FileDescriptorSet, package_dir: str = PACKAGE_DIR
) -> list[FileDescriptorProto]:
    """Return the files of our package, without what they import, sorted by name."""
    own = (file for file in image.file if file.name.startswith(f"{package_dir}/"))
    return sorted(own, key=lambda file: file.name)
