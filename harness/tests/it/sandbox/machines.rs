//! The sandbox on lesser kernels, as another user, and when the harness dies.

use std::path::{Path, PathBuf};

use harness::eval::sandbox::{PythonSandbox, SandboxOptions};
use tasks::{Executor as _, Limits, Verdict};

use super::hostile::REFUSED;
use super::{limits, options, sandbox, skip};

/// Not the path, which a build that goes on beside the tests may replace.
const THIS_PROGRAM: &str = "/proc/self/exe";

#[test]
#[ignore = "started by the test below, which kills it"]
fn sleeps_in_the_sandbox() {
    let (mut sandbox, _guard) = sandbox().expect("the test below has one");
    assert_eq!(sandbox.run("import time\ntime.sleep(60)", &Limits { timeout_s: 20.0, ..limits() }), Verdict::Timeout);
}

#[test]
fn the_death_of_the_harness_ends_its_programs() {
    use std::time::{Duration, Instant};
    let Some(_alone) = sandbox() else { return };
    let folder = tempfile::tempdir().unwrap(); // for what the killed process cannot clean up
    let mut harness = std::process::Command::new(THIS_PROGRAM)
        .env("TMPDIR", folder.path())
        .args(["--ignored", "--exact", "sandbox::machines::sleeps_in_the_sandbox"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let wait_for = |what: &str, mut holds: Box<dyn FnMut() -> bool + '_>| {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < Duration::from_secs(20), "no {what} in 20 s");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // the sleeping program: a confined interpreter that has used the time a start takes and lives on
    let mut program = PathBuf::new();
    let mut seen = 0;
    wait_for(
        "program",
        Box::new(|| {
            let found = confined_children(harness.id());
            seen = if found.first() == Some(&program) { seen + 1 } else { 0 };
            program = found.into_iter().next().unwrap_or_default();
            seen > 20
        }),
    );
    harness.kill().unwrap();
    harness.wait().unwrap();
    wait_for("end of the program", Box::new(|| !program.exists()));
}

/// Processes in `/proc` that are interpreters in a sandbox and children of this process.
fn confined_children(parent: u32) -> Vec<PathBuf> {
    let parent = format!("\nPPid:\t{parent}\n");
    let confined = |process: &PathBuf| {
        std::fs::read_to_string(process.join("status")).is_ok_and(|status| status.contains(&parent))
            && std::fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains("addaudithook"))
    };
    std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).filter(confined).collect()
}

#[test]
fn a_launcher_whose_parent_is_gone_runs_nothing() {
    let Some((sandbox, _guard)) = sandbox() else { return };
    let plan = serde_json::json!({
        "interpreter": sandbox.interpreter(), "executable": [], "readable": [], "memory_bytes": 1u64 << 30, "cpu_s": 5, "parent": 1,
        "unsafe_exec": true,
    });
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut launcher = std::process::Command::new(options().launcher);
    launcher.arg("__sandbox").arg(plan.to_string()).stdin(std::os::fd::OwnedFd::from(theirs)).stderr(std::process::Stdio::null());
    let status = launcher.status().unwrap();
    drop(launcher); // and with it our copy of the other end
    let mut said = String::new();
    std::io::Read::read_to_string(&mut ours, &mut said).unwrap();
    assert!(!status.success() && said.starts_with("{\"failed\":\"PR_SET_PDEATHSIG: the parent process is gone"), "{said}");
}

/// A launcher under a filter of the test's own that makes system call number `call` fail with `errno`, as on a lesser machine.
fn launcher_without(folder: &Path, call: u32, errno: u32) -> PathBuf {
    let path = folder.join("launcher");
    let text = format!(
        r#"#!/usr/bin/env python3
import ctypes, os, struct, sys
filters = [(0x20, 0, 0, 0), (0x15, 0, 1, {call}), (0x06, 0, 0, 0x50000 | {errno}), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in filters))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(filters), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.execv("{}", ["harness"] + sys.argv[1:])
"#,
        options().launcher.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
fn without_landlock_only_unsafe_exec_runs_and_it_shows() {
    let Some(_alone) = sandbox() else { return };
    let folder = tempfile::tempdir().unwrap();
    // landlock_create_ruleset, ENOSYS: a kernel before 5.13
    let launcher = launcher_without(folder.path(), 444, 38);
    let error = PythonSandbox::with_options(SandboxOptions { launcher: launcher.clone(), ..options() }).unwrap_err();
    assert!(error.to_string().contains("found it not enforced"), "{error}");
    let mut sandbox = PythonSandbox::with_options(SandboxOptions { launcher, unsafe_exec: true, ..options() }).unwrap();
    assert_eq!(sandbox.layers().landlock_abi, None);
    assert!(sandbox.layers().to_string().starts_with("NO LANDLOCK, seccomp"), "{}", sandbox.layers());
    // the other layers stay
    assert_eq!(sandbox.run("import os\nos.fork()", &limits()), Verdict::Exception);
}

#[test]
fn without_namespaces_the_other_layers_do() {
    let Some(_alone) = sandbox() else { return };
    let folder = tempfile::tempdir().unwrap();
    let unshare = if cfg!(target_arch = "x86_64") { 272 } else { 97 };
    let launcher = launcher_without(folder.path(), unshare, 1);
    let mut sandbox = PythonSandbox::with_options(SandboxOptions { launcher, ..options() }).unwrap();
    assert!(!sandbox.layers().namespaces && sandbox.layers().landlock_abi.is_some() && sandbox.layers().capabilities_dropped);
    let status = format!(
        "{REFUSED}import socket\nassert refused(open, '/etc/shadow') and refused(socket.socket) and refused(os.kill, os.getppid(), 9)"
    );
    assert_eq!(sandbox.run(&status, &limits()).name(), "pass");
    let threads = "import threading, time\nfor _ in range(8): threading.Thread(target=time.sleep, args=(.1,)).start()";
    assert_eq!(sandbox.run(threads, &limits()).name(), "pass");
}

#[test]
fn an_ordinary_user_gets_the_same_verdicts() {
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65534;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !is_root {
        return skip(&"only root can become another user").unwrap_or_default();
    }
    let Some(_alone) = sandbox() else { return };
    let mut command = std::process::Command::new(THIS_PROGRAM);
    command.args(["sandbox::", "--skip", "ordinary_user", "--skip", "canonical", "--nocapture", "--test-threads", "1"]);
    command.uid(NOBODY).gid(NOBODY).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    match command.output() {
        Err(error) => skip(&format!("this program cannot be run as another user: {error}")).unwrap_or_default(),
        Ok(output) => {
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{out}\n{err}");
            eprintln!("as another user: {}", out.lines().filter(|line| line.starts_with("test result")).collect::<String>());
        }
    }
}
