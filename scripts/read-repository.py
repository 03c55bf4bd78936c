#!/usr/bin/env python3
"""Reads a pgherd backup repository in a directory, by its format alone (docs/spec/repository.md).

Independent of pgherd: Python 3.9 or newer, libzstd.so.1 and, for encrypted repositories, libcrypto.so.3; no package.

  read-repository.py REPOSITORY [--key FILE] list
  read-repository.py REPOSITORY [--key FILE] cat KEY                 one object, such as clusters/shop/wal/00000001/...
  read-repository.py REPOSITORY [--key FILE] restore SNAPSHOT DIR    such as clusters/shop/backups/20261120T020000-f1/content
"""
import base64
import ctypes
import gzip
import hashlib
import hmac
import json
import os
import struct
import sys

PAGE = 8192
PAGES_PER_FRAME = 128


def fail(text):
    sys.exit("read-repository: " + text)


def zstd(data, size):
    lib = ctypes.CDLL("libzstd.so.1")
    lib.ZSTD_decompress.restype = ctypes.c_size_t
    lib.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    out = ctypes.create_string_buffer(max(size, 1))
    if lib.ZSTD_decompress(out, size, data, len(data)) != size:
        raise ValueError("zstd cannot decompress it")
    return out.raw[:size]


def decompress(codec, data, size):
    if codec == 0:
        out = data
    elif codec == 1:
        out = zstd(data, size)
    elif codec == 3:
        out = gzip.decompress(data)
    elif codec == 2:
        import brotli  # the one codec that needs a package

        out = brotli.decompress(data)
    else:
        raise ValueError("unknown compression %d" % codec)
    if len(out) != size:
        raise ValueError("%d bytes where %d should be" % (len(out), size))
    return out


def open_gcm(key, stored, about):
    """AES-256-GCM: nonce (12), ciphertext, tag (16)."""
    nonce, body, tag = stored[:12], stored[12:-16], stored[-16:]
    lib = ctypes.CDLL("libcrypto.so.3")
    for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm"):
        getattr(lib, name).restype = ctypes.c_void_p
    ctx = ctypes.c_void_p(lib.EVP_CIPHER_CTX_new())
    try:
        out = ctypes.create_string_buffer(len(body) + 16)
        length = ctypes.c_int()
        step = ctypes.byref(length)
        lib.EVP_DecryptInit_ex(ctx, ctypes.c_void_p(lib.EVP_aes_256_gcm()), None, key, nonce)
        lib.EVP_DecryptUpdate(ctx, None, step, about, len(about))
        lib.EVP_DecryptUpdate(ctx, out, step, body, len(body))
        lib.EVP_CIPHER_CTX_ctrl(ctx, 0x11, 16, ctypes.c_char_p(tag))
        if lib.EVP_DecryptFinal_ex(ctx, ctypes.create_string_buffer(16), step) != 1:
            raise ValueError("the key does not open it")
        return out.raw[: len(body)]
    finally:
        lib.EVP_CIPHER_CTX_free(ctx)


def read_key(path):
    text = open(path).read().strip()
    return bytes.fromhex(text) if len(text) == 64 else base64.b64decode(text)


class Repository:
    def __init__(self, root, key):
        self.root = root
        self.identity = json.loads(self.raw("repository.json"))
        if self.identity["format"] != 1:
            fail("format %r is not known" % self.identity["format"])
        self.key = None
        encryption = self.identity["encryption"]
        if encryption is not None:
            if key is None:
                fail("the repository is encrypted: name its key file")
            self.key = self.derive(key, base64.b64decode(encryption["salt"]))
            check = hmac.new(self.key, b"pgherd repository key", "sha256").hexdigest()
            if not hmac.compare_digest(check, encryption["check"]):
                fail("the key is another one")

    @staticmethod
    def derive(key, salt):
        """HKDF-SHA256, 32 bytes."""
        secret = hmac.new(salt, key, "sha256").digest()
        return hmac.new(secret, b"pgherd repository\x01", "sha256").digest()

    def raw(self, key):
        with open(os.path.join(self.root, key), "rb") as file:
            return file.read()

    def digest(self, data):
        return hashlib.new(self.identity["hash"], data).digest()[:16]

    def read(self, key):
        """A sealed object."""
        data = self.raw(key)
        if data[:4] != b"pgHo" or data[4] != 1:
            fail(key + " is not an object of this format")
        head, total, stored = data[:16], data[16:32], data[32:]
        about = key.encode() + b"\0" + head
        if self.digest(about + stored) != total:
            fail(key + ": the checksum does not match")
        if data[6] == 1:
            stored = open_gcm(self.key, stored, about)
        return decompress(data[5], stored, struct.unpack_from("<Q", head, 8)[0])

    def pack(self, snapshot, number):
        return Pack(self, snapshot, number)


class Pack:
    def __init__(self, repository, snapshot, number):
        self.repository, self.snapshot, self.number = repository, snapshot, number
        self.key = "packs/%s/%08x" % (snapshot, number)
        self.data = repository.raw(self.key)
        if self.data[:4] != b"pgHp" or self.data[4] != 1:
            fail(self.key + " is not a pack of this format")
        if self.data[8:16].hex() != snapshot or struct.unpack_from("<I", self.data, 16)[0] != number:
            fail(self.key + ": another pack lies in its place")
        count = struct.unpack_from("<I", self.data, 20)[0]
        head, directory = self.data[:32], self.data[48 : 48 + 32 * count]
        if repository.digest(head + directory) != self.data[32:48]:
            fail(self.key + ": the checksum of its directory does not match")
        self.places = {}
        for at in range(0, len(directory), 32):
            frame, offset, stored, raw = struct.unpack_from("<IIII", directory, at)
            self.places[frame] = (offset, stored, raw & 0xFFFFFF, raw >> 24, directory[at + 16 : at + 32])
        self.opened = {}

    def frame(self, number):
        if number not in self.opened:
            offset, stored, raw, codec, total = self.places[number]
            data = self.data[offset : offset + stored]
            if self.repository.digest(data) != total:
                fail("%s: the checksum of frame %d does not match" % (self.key, number))
            if self.data[6] == 1:
                about = bytes.fromhex(self.snapshot) + struct.pack("<II", self.number, number)
                data = open_gcm(self.repository.key, data, about)
            self.opened = {number: decompress(codec, data, raw)}
        return self.opened[number]

    def page(self, position):
        within = position % PAGES_PER_FRAME * PAGE
        return self.frame(position // PAGES_PER_FRAME)[within : within + PAGE]


class Reader:
    """Numbers and strings as the maps have them."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def varint(self):
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def take(self, count):
        self.at += count
        return self.data[self.at - count : self.at]

    def pack(self):
        return self.take(8).hex(), struct.unpack("<I", self.take(4))[0]

    def pages(self):
        """[(hash, pack or None, position)] of consecutive pages."""
        count = self.varint()
        hashes = self.take(16 * count)
        packs = [self.pack() for _ in range(self.varint())]
        found = []
        while len(found) < count:
            run, index = self.varint(), self.varint()
            position = self.varint() if index else 0
            for step in range(run):
                at = 16 * len(found)
                found.append((hashes[at : at + 16], packs[index - 1] if index else None, position + step))
        return found


def snapshot_files(repository, root, open_pack):
    """(path, mode, modified, size, crc32c, pages) of every file."""
    for index, frame in root["tables"]:
        table = Reader(open_pack(*root["packs"][index][:2]).frame(frame))
        while table.at < len(table.data):
            path = table.take(table.varint()).decode()
            mode, modified, size = table.varint(), table.varint(), table.varint()
            crc = struct.unpack("<I", table.take(4))[0]
            pieces = table.varint()
            if pieces == 0:
                pages = table.pages()
            else:
                pages = []
                for _ in range(pieces):
                    pack = table.pack()
                    pages += Reader(open_pack(*pack).frame(table.varint())).pages()
            yield path, mode, modified, size, crc, pages


CRC_TABLE = []
for value in range(256):
    for _ in range(8):
        value = (value >> 1) ^ 0x82F63B78 if value & 1 else value >> 1
    CRC_TABLE.append(value)


def crc32c(data, crc):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def restore(repository, snapshot, target):
    root = json.loads(repository.read(snapshot + "/snapshot"))
    kept = {}

    def open_pack(*pack):
        if pack not in kept:
            if len(kept) > 8:
                kept.pop(next(iter(kept)))
            kept[pack] = repository.pack(*pack)
        return kept[pack]

    os.makedirs(target, mode=0o700)
    for entry in root["entries"]:
        path = os.path.join(target, entry["path"])
        if entry["kind"] == "directory":
            os.makedirs(path, mode=entry["mode"] & 0o777, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.symlink(entry["target"], path)
    check_crc = "--no-crc" not in sys.argv
    count = 0
    for path, mode, modified, size, crc, pages in snapshot_files(repository, root, open_pack):
        name = os.path.join(target, path)
        os.makedirs(os.path.dirname(name), mode=0o700, exist_ok=True)
        left, found = size, 0
        with open(name, "wb") as file:
            for wanted, pack, position in pages:
                data = bytes(PAGE) if pack is None else open_pack(*pack).page(position)
                if repository.digest(data) != wanted:
                    fail("%s: a page is not the one that was stored" % path)
                data = data[:left]
                left -= len(data)
                if check_crc:
                    found = crc32c(data, found)
                file.write(data)
        if left != 0 or (check_crc and found != crc):
            fail("%s: its checksum does not match" % path)
        os.chmod(name, mode & 0o777)
        os.utime(name, (modified, modified))
        count += 1
    if count != root["summary"]["files"]:
        fail("%d files where %d were stored" % (count, root["summary"]["files"]))
    print("%d files, %d bytes" % (count, root["summary"]["bytes"]))


def main(argv):
    args = [arg for arg in argv if arg != "--no-crc"]
    key = None
    if "--key" in args:
        at = args.index("--key")
        key = read_key(args[at + 1])
        del args[at : at + 2]
    if len(args) < 2:
        fail("\n" + __doc__)
    repository = Repository(args[0], key)
    if args[1] == "list":
        for folder, _, names in sorted(os.walk(os.path.join(args[0], "clusters"))):
            if "snapshot" in names:
                snapshot = os.path.relpath(folder, args[0])
                summary = json.loads(repository.read(snapshot + "/snapshot"))["summary"]
                print("%s  %d files  %d bytes" % (snapshot, summary["files"], summary["bytes"]))
    elif args[1] == "cat" and len(args) == 3:
        sys.stdout.buffer.write(repository.read(args[2]))
    elif args[1] == "restore" and len(args) == 4:
        restore(repository, args[2], args[3])
    else:
        fail("\n" + __doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
