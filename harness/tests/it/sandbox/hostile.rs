//! Hostile programs: early ends, forged verdicts, bombs, files, processes, the network.
//!
//! A program that checks refusals itself passes when everything was refused. Raw system calls are tried from a second interpreter that the
//! program turns into by `execv`: it has no audit hook, only what the kernel enforces. It cannot pass; it says what it found by a letter.

use std::path::Path;

use tasks::{Executor as _, Limits, Verdict};

use super::{expect, expect_within, limits, sandbox};

/// Refusal as an `OSError`, whatever its number.
pub(super) const REFUSED: &str = r"
import os, sys
def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        return True
    return False
";

/// Wall time of programs that only end by it, seconds.
const SHORT_TIMEOUT_S: f64 = 0.5;

#[test]
fn refusals_can_fail() {
    // the other tests of refusals rest on this one
    let allowed = format!("{REFUSED}assert refused(open, '/dev/null')");
    expect(&[("an allowed file", &allowed, &["assertion"]), ("a letter", &kernel_says("calls = [('getpid',)]"), &["exception"])]);
}

#[test]
fn early_ends_and_forged_verdicts_do_not_pass() {
    // line 10 is the check, line 12 the end; the raw string starts with an empty line
    let jump = r"
import sys
def tracer(frame, event, argument):
    if event == 'line' and frame.f_code.co_name == '<module>' and frame.f_lineno == 10:
        frame.f_lineno = 12
    return tracer
sys.settrace(tracer)
sys._getframe().f_trace = tracer
x = 0
assert x == 1

x = 1";
    // everything that can be reached from frames, modules, closures, containers and objects; the decoy shows that the walk finds such a value
    let search = r"
import sys
decoy = b'd' * 32
frame = sys._getframe()
left = [sys.modules]
while frame:
    left += [frame.f_locals, frame.f_globals]
    frame = frame.f_back
seen, found = {}, []
while left:
    value = left.pop()
    if id(value) in seen:
        continue
    seen[id(value)] = value
    if isinstance(value, (bytes, bytearray)) and len(value) == 32:
        found.append(bytes(value))
    elif isinstance(value, dict):
        left += list(value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        left += list(value)
    else:
        for name in ('__dict__', '__closure__', '__defaults__', '__self__', '__code__', 'co_consts', 'cell_contents'):
            try:
                left.append(getattr(value, name))
            except Exception:
                pass
assert len(seen) > 1000 and found == [decoy], found
";
    expect(&[
        ("os._exit(0)", "import os\nos._exit(0)\nassert False", &["killed"]),
        ("sys.exit(0)", "import sys\nsys.exit(0)\nassert False", &["killed"]),
        ("exit in a function that checks call", "def f():\n    raise SystemExit\nassert f() == 1", &["killed"]),
        ("printed verdict", "print('pass')\nprint('R' + '0' * 32)\nassert False", &["assertion"]),
        ("atexit", "import atexit, os\natexit.register(os._exit, 0)\nassert False", &["assertion"]),
        ("hooks", "import sys, os\nsys.excepthook = sys.unraisablehook = lambda *a: os._exit(0)\nassert False", &["assertion"]),
        ("guessed token", "import os\nos.write(3, b'0' * 32)\nos._exit(0)", &["killed"]),
        ("guess before the end", "import os\nos.write(3, b'0' * 32)", &["killed"]),
        ("pretends not to have run", "import os\nos.write(3, b'\\n{\"failed\":\"no landlock\"}\\n')\nos._exit(2)", &["killed"]),
        ("flooded socket", "import os\nwhile True: os.write(3, b'R' * 65536)", &["killed"]),
        ("all descriptors closed", "import os\nos.closerange(0, 64)", &["killed"]),
        ("socket replaced", "import os\nos.dup2(1, 3)", &["killed"]),
        (
            "exit from a thread",
            "import os, threading, time\nthreading.Thread(target=os._exit, args=(0,)).start()\ntime.sleep(9)",
            &["killed"],
        ),
        (
            "exit from a destructor",
            "import os\nclass C:\n    def __del__(self): os._exit(0)\nc = C()\ndef f(c):\n    assert False\nf(C())",
            &["killed", "assertion"],
        ),
        ("tracer jumps over the check", jump, &["exception"]),
        ("token in all that can be reached", search, &["pass"]),
        ("garbage collector", "import gc\ngc.get_objects()", &["exception"]),
        ("second interpreter in the process", "import _xxsubinterpreters\n_xxsubinterpreters.create()", &["exception"]),
        ("memory through ctypes", "import ctypes\nctypes.string_at(id(1), 8)", &["exception"]),
        (
            "hook replaced",
            "import sys\nf = sys._getframe(2).f_locals['sandbox_hook']\nf.__code__ = (lambda *a: None).__code__",
            &["exception"],
        ),
        ("exec of a second interpreter", "import os, sys\nos.execv(sys.executable, ['python', '-c', 'pass'])", &["killed"]),
    ]);
}

#[test]
fn endless_programs_end_by_the_clock() {
    expect_within(
        SHORT_TIMEOUT_S,
        &[
            ("all descriptors closed, then on", "import os\nos.closerange(0, 64)\nwhile True: pass", &["timeout"]),
            ("endless loop", "while True: pass", &["timeout"]),
            ("endless sleep", "import time\ntime.sleep(1e6)", &["timeout"]),
            (
                "signals ignored",
                "import signal\nfor s in (15, 2, 1, 24, 14): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
                &["timeout"],
            ),
            (
                "catches everything",
                "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
                &["timeout"],
            ),
            ("insistent fork bomb", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", &["timeout"]),
        ],
    );
}

#[test]
fn resource_bombs_end() {
    expect(&[
        ("endless output", "while True: print('x' * 1000)", &["killed"]),
        ("endless errors", "import sys\nwhile True: sys.stderr.write('x' * 1000)", &["killed"]),
        ("memory in pieces", "kept = []\nwhile True: kept.append(bytearray(1 << 20))", &["memory"]),
        ("memory in crumbs", "kept = []\nwhile True: kept.append(bytearray(1 << 16))", &["memory"]),
        ("memory at once", "bytearray(100 << 30)", &["memory"]),
        ("memory as a number", "1 << (1 << 40)", &["memory", "exception"]),
        ("endless recursion", "def f(): return f()\nf()", &["exception"]),
        (
            "recursion without a limit",
            "import sys\nsys.setrecursionlimit(1 << 30)\ndef f(x): return f([x])\nf(0)",
            &["killed", "memory", "exception", "timeout"],
        ),
        ("deep nesting", &format!("{}1", "-".repeat(200_000)), &["killed", "memory", "exception", "syntax_error"]),
        ("fork bomb", "import os\nwhile True: os.fork()", &["exception"]),
        (
            "100,000 threads",
            "import threading, time\nfor _ in range(100000): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            &["exception", "memory"],
        ),
        (
            "small stacks",
            "import threading, time\nthreading.stack_size(32768)\nfor _ in range(100000): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            &["exception"],
        ),
        ("descriptors", "import os\nwhile True: os.pipe()", &["exception"]),
    ]);
}

#[test]
fn threads_are_limited_where_the_layers_say_so() {
    let Some((mut sandbox, _guard)) = sandbox() else { return };
    let source = r"
import threading, time
threading.stack_size(32768)
started = 0
try:
    while started < 100000:
        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
        started += 1
except RuntimeError:
    pass
print(started)
";
    // As root some thousand threads are started, which takes a loaded machine longer than a task's three seconds.
    let patient = Limits { timeout_s: 60.0, ..limits() };
    let verdict = sandbox.run(source, &patient);
    let Verdict::Pass { stdout } = verdict else { panic!("expected the program to end by itself, found {verdict:?}") };
    let started: u64 = stdout.trim().parse().unwrap();
    // 64 with the main one; without the limit 1 GiB of address space holds some thousand of these stacks with their guards
    let most = if sandbox.layers().thread_limit { 63 } else { 10_000 };
    assert!((16..=most).contains(&started), "{started} threads, {}", sandbox.layers());
}

#[test]
fn nothing_can_be_written() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let name = outside.path().file_name().unwrap().to_string_lossy().into_owned();
    let source = format!(
        r#"{REFUSED}
outside, name = {:?}, {name:?}
for folder in ("/tmp", "/dev/shm", "/var/tmp", "/root", "/etc", "/usr/lib", ".", outside, os.path.dirname(os.__file__)):
    path = folder + "/" + name + ".written"
    assert refused(open, path, "w")
    assert refused(os.mkdir, path)
    assert refused(os.symlink, "/etc/passwd", path)
    assert refused(os.mkfifo, path)
victim = outside + "/victim"
for call, arguments in (
    (open, (victim, "a")), (os.truncate, (victim, 0)), (os.unlink, (victim,)), (os.rename, (victim, victim + "2")),
    (os.chmod, (victim, 0)), (os.utime, (victim,)), (os.link, (victim, victim + "3")), (os.chown, (victim, 1, 1)),
    (os.setxattr, (victim, "user.a", b"b")), (os.memfd_create, ("a",)),
):
    assert refused(call, *arguments), call
"#,
        outside.path()
    );
    expect(&[("writes", &source, &["pass"])]);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    for folder in ["/tmp", "/dev/shm", "/var/tmp"] {
        assert!(!Path::new(folder).join(format!("{name}.written")).exists(), "{folder}");
    }
}

#[test]
fn nothing_of_the_machine_can_be_read() {
    let Some((mut sandbox, _guard)) = sandbox() else { return };
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "secret").unwrap();
    // a link in the one folder that can be listed, as a program could not make it itself
    let link = sandbox.folder().join("link");
    std::os::unix::fs::symlink(secret.path(), &link).unwrap();
    let source = format!(
        r#"{REFUSED}
for path in ("/etc/shadow", "/etc/passwd", "/proc/self/environ", "/proc/self/maps", "/proc/self/mem", "/proc/1/environ",
             "/proc/%d/mem" % os.getppid(), "/proc/%d/environ" % os.getppid(), "link", "/usr/lib/../../etc/passwd",
             "/usr/lib/ssl/openssl.cnf", "/dev/mem", "/dev/tty", "/sys/kernel/notes", {:?}, {:?}):
    assert refused(open, path, "rb"), path
for folder in ("/", "/root", "/home", "/proc", "/tmp", "/etc", ".."):
    assert refused(os.listdir, folder), folder
assert os.listdir(".") == ["link"]
assert dict(os.environ).keys() <= {{"PYTHONHASHSEED", "LC_CTYPE"}}, os.environ
"#,
        secret.path(),
        env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml"
    );
    let verdict = sandbox.run(&source, &limits());
    assert_eq!(verdict.name(), "pass", "{verdict:?}");
}

#[test]
fn no_way_to_other_processes_or_the_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let source = format!(
        r#"{REFUSED}
import signal, socket, subprocess, resource
assert refused(socket.create_connection, ("127.0.0.1", {port}), 1)
for family, kind in ((socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_STREAM),
                     (socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM), (socket.AF_NETLINK, socket.SOCK_RAW)):
    assert refused(socket.socket, family, kind)
assert refused(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM)
left, right = socket.socketpair()
left.send(b"x")
assert right.recv(1) == b"x"
assert refused(left.connect, "/dev/log") and refused(left.sendmsg, [b"x"])
assert refused(os.fork)
assert refused(subprocess.run, ["/bin/ls"])
assert refused(os.execv, "/bin/ls", ["ls"]) and refused(os.execv, "/bin/sh", ["sh"])
assert refused(os.posix_spawn, sys.executable, ["python"], {{}})
for pid in (os.getppid(), 1, -1, 0):
    assert refused(os.kill, pid, signal.SIGKILL)
assert refused(os.killpg, 1, signal.SIGKILL)
assert refused(os.setsid) and refused(os.setuid, 0) and refused(os.chroot, "/") and refused(os.nice, -5)
for name in ("RLIMIT_AS", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_CPU"):
    limit = getattr(resource, name)
    try:
        resource.setrlimit(limit, (resource.RLIM_INFINITY,) * 2)
    except (OSError, ValueError):
        continue
    assert False, name
"#
    );
    expect(&[("network and processes", &source, &["pass"])]);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a connection arrived");
}

/// A program that becomes a second interpreter, without audit hook, and makes raw system calls there: `calls` is a list of tuples, the name
/// and arguments. Writes `A` when the filter refused all (`ENOSYS`), `E` when not.
fn kernel_says(calls: &str) -> String {
    format!(
        r#"
import os, sys
os.execv(sys.executable, ["python", "-s", "-S", "-B", "-c", '''
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
{calls}
letter = b"A"
for name, *arguments in calls:
    if libc.syscall({numbers}[name], *arguments) != -1 or ctypes.get_errno() != 38:
        letter = b"E"
os.write(3, letter)
os._exit(1)
'''])
"#,
        numbers = NUMBERS.replace('\n', "")
    )
}

#[cfg(target_arch = "x86_64")]
const NUMBERS: &str = "dict(getpid=39, ptrace=101, process_vm_readv=310, process_vm_writev=311, unshare=272, setns=308, mount=165, memfd_create=319,
io_uring_setup=425, userfaultfd=323, perf_event_open=298, bpf=321, keyctl=250, add_key=248, execveat=322, clone3=435, fork=57, vfork=58, clone=56,
kill=62, tkill=200, tgkill=234, socket=41, prctl=157, seccomp=317, personality=135, chroot=161, reboot=169, shmget=29, msgget=68,
pidfd_open=434, open_by_handle_at=304, x32_fork=0x40000039, x32_write=0x40000001)";
#[cfg(not(target_arch = "x86_64"))]
const NUMBERS: &str = "dict(getpid=172, ptrace=117, process_vm_readv=270, process_vm_writev=271, unshare=97, setns=268, mount=40, memfd_create=279,
io_uring_setup=425, userfaultfd=282, perf_event_open=241, bpf=280, keyctl=219, add_key=217, execveat=281, clone3=435, clone=220,
kill=129, tkill=130, tgkill=131, socket=198, prctl=167, seccomp=277, personality=92, chroot=51, reboot=142, shmget=194, msgget=186,
pidfd_open=434, open_by_handle_at=265)";

#[test]
fn the_kernel_refuses_raw_system_calls() {
    let calls = r#"parent = os.getppid()
calls = [
    ("ptrace", 16, parent, 0, 0), ("ptrace", 0, 0, 0, 0), ("process_vm_readv", parent, 0, 0, 0, 0, 0), ("process_vm_writev", parent, 0, 0, 0, 0, 0),
    ("unshare", 0x10000000), ("unshare", 0), ("setns", 3, 0), ("mount", 0, 0, 0, 0, 0), ("memfd_create", b"a", 0), ("io_uring_setup", 1, 0),
    ("userfaultfd", 0), ("perf_event_open", 0, 0, -1, -1, 0), ("bpf", 0, 0, 0), ("keyctl", 0, 0, 0, 0, 0), ("add_key", 0, 0, 0, 0, 0),
    ("execveat", -100, b"/bin/ls", 0, 0, 0), ("clone3", 0, 0), ("clone", 17, 0, 0, 0, 0), ("clone", 0x10000000 | 17, 0, 0, 0, 0),
    ("kill", parent, 0), ("tkill", os.getpid(), 0), ("tgkill", parent, parent, 0), ("socket", 2, 1, 0), ("prctl", 4, 1, 0, 0, 0), ("seccomp", 0, 0, 0),
    ("personality", 0xffffffff), ("chroot", b"/"), ("reboot", 0, 0, 0, 0), ("shmget", 0, 4096, 0o1600), ("msgget", 0, 0o1600),
    ("pidfd_open", os.getpid(), 0), ("open_by_handle_at", 0, 0, 0),
]"#;
    expect(&[("raw calls", &kernel_says(calls), &["assertion"])]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_kernel_refuses_older_and_foreign_call_tables() {
    let older = kernel_says("calls = [('fork',), ('vfork',), ('x32_fork',), ('x32_write', 1, b'x', 1)]");
    // mov eax, 20 (getpid of the 32-bit table); int 0x80; ret
    let foreign = r#"
import os, sys
os.execv(sys.executable, ["python", "-s", "-S", "-B", "-c", '''
import ctypes, mmap, os
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
os.write(3, b"E")
'''])
"#;
    expect(&[("older calls", &older, &["assertion"]), ("32-bit calls", foreign, &["killed"])]);
}
