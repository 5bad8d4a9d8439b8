// Runs bnt.wasm, which lies beside this file, under Node 16.4 or later:
//
//     node bnt.mjs infer -p "Once upon a time"
//
// The module gets what it imports of WASI (preview 1) from here: arguments, the environment, clocks,
// random bytes, standard streams, and the files of this process for reading, nothing to write to.
// Node's own WASI is experimental, and its versions up to 20 free what a module still uses when its
// memory grows.
//
// BNT_MODELS_DIR names the folder of the bundled model; without it, it is looked for beside this
// file and in the source tree.
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync, statSync,
    writeSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { randomFillSync } from 'node:crypto';
import { fileURLToPath } from 'node:url';

const BUNDLED = 'tinystories-bitnet.gguf';
const here = dirname(fileURLToPath(import.meta.url));

function modelsDir() {
    const places = [here, join(here, '..', '..', 'engine', 'models')];
    return process.env.BNT_MODELS_DIR || places.find((dir) => existsSync(join(dir, BUNDLED))) || here;
}

// ---- numbers of the interface

const OK = 0, AGAIN = 6, BADF = 8, INVAL = 28, IO = 29, SPIPE = 70, ROFS = 69;
const ERRORS = { EACCES: 2, EAGAIN: AGAIN, EISDIR: 31, ELOOP: 32, EMFILE: 33, ENAMETOOLONG: 37,
    ENOENT: 44, ENOTDIR: 54, EPERM: 63, EPIPE: 64 };
const CHARACTERS = 2, FOLDER = 3, REGULAR = 4, UNKNOWN = 0;
const RIGHTS = 0x1fffffffn, STREAM_RIGHTS = RIGHTS & ~0x24n; // without seek and tell: a terminal has none
const CREATE_OR_TRUNCATE = 1 | 8;

class Exit {
    constructor(code) {
        this.code = code;
    }
}

// ---- what the module sees

const args = ['bnt.mjs', ...process.argv.slice(2)];
const env = Object.entries({ ...process.env, BNT_MODELS_DIR: modelsDir(), PWD: process.cwd() })
    .map(([name, value]) => `${name}=${value}`);
// Descriptors: a real one, or the folder in which names are looked up. There is one of these, the
// root, since the module's libc takes no second one; it is told the current folder by PWD.
const files = [{ fd: 0, stream: true }, { fd: 1, stream: true }, { fd: 2, stream: true },
    { folder: '/' }];
let memory;

const bytes = (at, n) => new Uint8Array(memory.buffer, at, n);
const view = () => new DataView(memory.buffer);
const text = (at, n) => new TextDecoder().decode(bytes(at, n).slice());
const u32 = (at, value) => view().setUint32(at, value, true);
const u64 = (at, value) => view().setBigUint64(at, BigInt(value), true);

// A call's number: what it returns, or that of the error of the system.
function checked(call) {
    return (...given) => {
        try {
            return call(...given) ?? OK;
        } catch (error) {
            if (error instanceof Exit || error.code === undefined) {
                throw error;
            }
            return ERRORS[error.code] ?? IO;
        }
    };
}

// A stream that is not ready is tried again a millisecond later: the module cannot wait for it.
function patiently(call) {
    for (;;) {
        try {
            return call();
        } catch (error) {
            if (error.code === 'EOF') {
                return 0;
            }
            if (error.code !== 'EAGAIN') {
                throw error;
            }
            Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
        }
    }
}

function* vectors(at, n) {
    for (let i = 0; i < n; i++) {
        yield bytes(view().getUint32(at + 8 * i, true), view().getUint32(at + 8 * i + 4, true));
    }
}

function readInto(file, at, n, position, out) {
    let total = 0;
    for (const piece of vectors(at, n)) {
        const from = position === null ? null : Number(position) + total;
        const got = patiently(() => readSync(file.fd, piece, 0, piece.length, from));
        total += got;
        if (got < piece.length) {
            break;
        }
    }
    u32(out, total);
    return total;
}

function kindOf(stat) {
    return stat.isFile() ? REGULAR : stat.isDirectory() ? FOLDER
        : stat.isCharacterDevice() ? CHARACTERS : UNKNOWN;
}

function putStat(stat, at) {
    bytes(at, 64).fill(0);
    u64(at, stat.dev);
    u64(at + 8, stat.ino);
    view().setUint8(at + 16, kindOf(stat));
    u64(at + 24, stat.nlink);
    u64(at + 32, stat.size);
    u64(at + 40, stat.atimeNs);
    u64(at + 48, stat.mtimeNs);
    u64(at + 56, stat.ctimeNs);
}

function putStrings(list, pointers, at) {
    for (const string of list) {
        u32(pointers, at);
        pointers += 4;
        const encoded = new TextEncoder().encode(string + '\0');
        bytes(at, encoded.length).set(encoded);
        at += encoded.length;
    }
}

function putSizes(list, count, size) {
    u32(count, list.length);
    u32(size, list.reduce((sum, string) => sum + Buffer.byteLength(string) + 1, 0));
}

function putKind(fd, at) {
    const file = files[fd];
    if (!file) {
        return BADF;
    }
    const kind = file.folder ? FOLDER : kindOf(fstatSync(file.fd));
    bytes(at, 24).fill(0);
    view().setUint8(at, kind);
    u64(at + 8, file.stream ? STREAM_RIGHTS : RIGHTS);
    u64(at + 16, RIGHTS);
}

function open(folder, path, length, how, out) {
    if (!files[folder]?.folder) {
        return BADF;
    }
    if (how & CREATE_OR_TRUNCATE) {
        return ROFS;
    }
    const place = resolve(files[folder].folder, text(path, length));
    const file = { fd: openSync(place, 'r'), at: 0n };
    u32(out, files.push(file) - 1);
}

function seek(fd, offset, whence, out) {
    const file = files[fd];
    if (!file || file.folder || file.stream) {
        return file ? SPIPE : BADF;
    }
    const from = [0n, file.at, whence === 2 ? BigInt(fstatSync(file.fd).size) : 0n][whence];
    if (from === undefined || from + offset < 0n) {
        return INVAL;
    }
    file.at = from + offset;
    u64(out, file.at);
}

function read(fd, at, n, out) {
    const file = files[fd];
    if (file?.fd === undefined) {
        return BADF;
    }
    const got = readInto(file, at, n, file.stream ? null : file.at, out);
    file.at = file.stream ? undefined : file.at + BigInt(got);
}

function write(fd, at, n, out) {
    const file = files[fd];
    if (!file?.stream) {
        return BADF;
    }
    let total = 0;
    for (const piece of vectors(at, n)) {
        for (let done = 0; done < piece.length;) {
            done += patiently(() => writeSync(file.fd, piece, done));
        }
        total += piece.length;
    }
    u32(out, total);
}

const calls = {
    args_get: (pointers, at) => putStrings(args, pointers, at),
    args_sizes_get: (count, size) => putSizes(args, count, size),
    environ_get: (pointers, at) => putStrings(env, pointers, at),
    environ_sizes_get: (count, size) => putSizes(env, count, size),
    clock_time_get: (clock, precision, at) =>
        u64(at, clock === 0 ? BigInt(Date.now()) * 1000000n : process.hrtime.bigint()),
    random_get: (at, n) => void randomFillSync(bytes(at, n)),
    proc_exit: (code) => {
        throw new Exit(code);
    },
    fd_close: (fd) => {
        const file = files[fd];
        if (file?.fd === undefined) {
            return BADF;
        }
        files[fd] = undefined;
        if (!file.stream) {
            closeSync(file.fd);
        }
    },
    fd_fdstat_get: putKind,
    fd_fdstat_set_flags: () => OK,
    fd_filestat_get: (fd, at) =>
        files[fd]?.fd === undefined ? BADF : putStat(fstatSync(files[fd].fd, { bigint: true }), at),
    fd_prestat_get: (fd, at) => {
        if (!files[fd]?.folder) {
            return BADF;
        }
        u32(at, 0);
        u32(at + 4, files[fd].folder.length);
    },
    fd_prestat_dir_name: (fd, at, n) => {
        bytes(at, n).set(new TextEncoder().encode(files[fd].folder).subarray(0, n));
    },
    fd_pread: (fd, at, n, position, out) =>
        files[fd]?.fd === undefined ? BADF : void readInto(files[fd], at, n, position, out),
    fd_read: read,
    fd_seek: seek,
    fd_write: write,
    path_filestat_get: (folder, flags, path, length, at) =>
        files[folder]?.folder ? putStat(
            statSync(resolve(files[folder].folder, text(path, length)), { bigint: true }), at) : BADF,
    path_open: (folder, flags, path, length, how, rights, inherited, mode, out) =>
        open(folder, path, length, how, out),
};

// ---- run

const file = process.env.BNT_WASM || join(here, 'bnt.wasm');
const imports = Object.fromEntries(Object.entries(calls).map(([name, call]) => [name, checked(call)]));
const { exports } = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(file)),
    { wasi_snapshot_preview1: imports });
memory = exports.memory;
try {
    exports._start();
} catch (error) {
    if (!(error instanceof Exit)) {
        throw error;
    }
    process.exitCode = error.code;
}
