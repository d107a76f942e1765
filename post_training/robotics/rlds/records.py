"""Read TFRecord files of ``tf.train.Example`` messages without TensorFlow.

A record is its length (8 bytes), a checksum of the length (4), the message, and a checksum of the
message (4). The length's checksum is compared, which finds files that are none, are compressed, or
lost bytes before here. The message's is not: without a compiled CRC-32C that takes longer than all
the rest. https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from nemo_cosmos.errors import MissingFileError, SampleError

_HEAD = struct.Struct("<QI")
_TAIL_BYTES = 4

# tensorflow/core/example/{example,feature}.proto, as far as they are needed.
_EXAMPLE_PROTO = """
name: "nemo_cosmos/example.proto" package: "nemo_cosmos" syntax: "proto3"
message_type {
  name: "Bytes" field { name: "value" number: 1 type: TYPE_BYTES label: LABEL_REPEATED }
}
message_type {
  name: "Floats" field { name: "value" number: 1 type: TYPE_FLOAT label: LABEL_REPEATED }
}
message_type {
  name: "Ints" field { name: "value" number: 1 type: TYPE_INT64 label: LABEL_REPEATED }
}
message_type {
  name: "Feature" oneof_decl { name: "kind" }
  field { name: "b" number: 1 type: TYPE_MESSAGE type_name: ".nemo_cosmos.Bytes" oneof_index: 0 }
  field { name: "f" number: 2 type: TYPE_MESSAGE type_name: ".nemo_cosmos.Floats" oneof_index: 0 }
  field { name: "i" number: 3 type: TYPE_MESSAGE type_name: ".nemo_cosmos.Ints" oneof_index: 0 }
}
message_type {
  name: "Features"
  nested_type {
    name: "FeatureEntry"
    options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".nemo_cosmos.Feature" }
  }
  field {
    name: "feature" number: 1 label: LABEL_REPEATED
    type: TYPE_MESSAGE type_name: ".nemo_cosmos.Features.FeatureEntry"
  }
}
message_type {
  name: "Example"
  field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".nemo_cosmos.Features" }
}
"""

Numbers = Sequence[float] | Sequence[int]


@dataclass(frozen=True)
class Record:
    """Where a record is.

    Attributes:
        file: its file.
        number: its number in the file, from 0.
        offset: where its message begins.
        num_bytes: length of its message.
    """

    file: Path
    number: int
    offset: int
    num_bytes: int

    def read(self) -> Mapping[str, Sequence[bytes] | Numbers]:
        """Return the values of each feature, by its name.

        Raises:
            MissingFileError: the file does not exist.
            SampleError: the record is damaged.
        """
        try:
            with self.file.open("rb") as stream:
                stream.seek(self.offset)
                content = stream.read(self.num_bytes)
        except FileNotFoundError as error:
            raise MissingFileError(f"There is no file '{self.file}'.") from error
        message = _example()()
        try:
            message.ParseFromString(content)
        except DecodeError as error:
            raise SampleError(
                f"Record {self.number} of '{self.file}' is damaged ({error}); expected a "
                "tf.train.Example. Fetch the file again, or leave it out."
            ) from error
        return {
            name: getattr(feature, kind).value
            for name, feature in message.features.feature.items()
            if (kind := feature.WhichOneof("kind")) is not None
        }


def list_records(file: Path) -> Iterator[Record]:
    """Find the records of a file without reading their messages.

    Args:
        file: a TFRecord file.

    Raises:
        SampleError: it is damaged from here on, or no TFRecord file.
    """
    total, offset, number = file.stat().st_size, 0, 0
    with file.open("rb") as stream:
        while offset < total:
            stream.seek(offset)
            head = stream.read(_HEAD.size)
            end = total + 1
            if len(head) == _HEAD.size:
                num_bytes, checksum = _HEAD.unpack(head)
                if checksum == masked_crc32c(head[:8]):
                    end = offset + _HEAD.size + num_bytes + _TAIL_BYTES
            if end > total:
                raise SampleError(
                    f"Record {number} of '{file}', at byte {offset}, is damaged or cut off; "
                    "expected an uncompressed TFRecord file. Fetch the file again."
                )
            yield Record(file, number, offset + _HEAD.size, num_bytes)
            offset, number = end, number + 1


def masked_crc32c(content: bytes) -> int:
    """Return the checksum of a few bytes as TFRecord writes it.

    Args:
        content: the bytes.
    """
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)  # Castagnoli, reflected
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _example() -> Any:
    """The class of ``tf.train.Example``, in a pool of its own: TensorFlow may be there, too."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_EXAMPLE_PROTO, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("nemo_cosmos.Example"))
