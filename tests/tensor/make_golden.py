#!/usr/bin/env python3
"""Makes golden.safetensors, which test_safetensors.c reads, with the format's own library (pip install 'safetensors>=0.8').

With a file's name, prints what that library reads from it instead: for a look at files that this program wrote.
"""
import ctypes
import pathlib
import struct
import sys

import safetensors

TENSORS = {
    "conv1.weight": ("float32", [2, 1, 3], struct.pack("<6f", 0.5, -1.25, 3.0, 1e-8, -0.0, 65504.0)),
    "step": ("int64", [], struct.pack("<q", -(2**40))),
    "half": ("float16", [2], struct.pack("<2e", 1.5, -2.0)),
    "brain": ("bfloat16", [2], bytes([0x80, 0x3F, 0x00, 0xC0])),  # 1 and -2
    "double": ("float64", [1], struct.pack("<d", 0.1)),
    "labels": ("int32", [3], struct.pack("<3i", 7, -1, 2**31 - 1)),
    "pixels": ("uint8", [1, 5], bytes([0, 1, 127, 128, 255])),
    "empty": ("float32", [0, 4], b""),
    "größe": ("uint8", [1], bytes([42])),
}
METADATA = {"format": "pt", "note": "a \"quoted\" line\n"}


def main():
    if len(sys.argv) > 1:
        data = pathlib.Path(sys.argv[1]).read_bytes()
        for name, info in safetensors.deserialize(data):
            print(name, info["dtype"], info["shape"], bytes(info["data"])[:32].hex())
        return
    buffers = {name: ctypes.create_string_buffer(data, max(len(data), 1)) for name, (_, _, data) in TENSORS.items()}
    tensors = {
        name: safetensors.TensorSpec(
            dtype=dtype, shape=shape, data_ptr=ctypes.addressof(buffers[name]), data_len=len(data)
        )
        for name, (dtype, shape, data) in TENSORS.items()
    }
    path = pathlib.Path(__file__).parent / "golden.safetensors"
    path.write_bytes(safetensors.serialize(tensors, METADATA))
    print(path, path.stat().st_size, "bytes")


main()
