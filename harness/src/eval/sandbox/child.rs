//! The launcher: `harness __sandbox PLAN` puts up the layers, reports them and becomes the interpreter.
//!
//! Order: inherited descriptors, session, namespaces, death signal, capabilities, limits, landlock, seccomp, `execve`. Each step needs
//! something that a later one takes away. It is a program of its own instead of a closure between fork and exec because the parent has
//! threads: after its fork hardly anything may be called, and `unshare` of a user namespace wants a single thread.
//!
//! Differs from common recipes: no `PR_SET_DUMPABLE`, which `execve` would set back; core dumps are off by their limit. No `-I` for the
//! interpreter, which would ignore `PYTHONHASHSEED` and so make the order of sets, and with it some verdicts, random; the environment is
//! empty and the working folder private, which is what `-I` is for.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::protocol::{Layers, Plan, Report};
use super::{files, filter, system};

/// Stack of the main thread and of each further one, bytes: the usual default, whatever the caller's shell says.
const STACK_BYTES: u64 = 8 << 20;

/// Open descriptors.
const DESCRIPTORS: u64 = 64;

/// Threads a program may have. Differs: the prototype's 16 refuse a `ThreadPoolExecutor` of default size (32 on a large machine).
const THREADS: u64 = 64;

/// Confines this process and runs the interpreter; comes back, with the reason, only when that failed. The reason is also said on the
/// socket; without one nobody listens, and a person who typed the command reads what the caller prints.
pub fn enter(plan: &str) -> String {
    let Err(reason) = confine_and_exec(plan);
    reason
}

fn confine_and_exec(plan: &str) -> Result<std::convert::Infallible, String> {
    system::close_inherited().map_err(|error| format!("close_range: {error}"))?;
    let plan: Plan = serde_json::from_str(plan).map_err(|error| format!("the plan is not understood: {error}"))?;
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(|error| format!("standard input: {error}"))?;
    let null = std::fs::File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    system::replace_stdin(null.as_fd()).map_err(|error| format!("standard input: {error}"))?;
    system::keep_across_exec(socket.as_fd()).map_err(|error| format!("socket: {error}"))?;
    let report = confine(&plan).map_or_else(Report::Failed, Report::Confined);
    let socket = say(socket, &report)?;
    if let Report::Failed(reason) = report {
        return Err(reason);
    }
    let error = Command::new(&plan.interpreter)
        .args(["-s", "-S", "-B", "-X", "utf8", "-c", include_str!("bootstrap.py")])
        .arg(socket.as_raw_fd().to_string())
        .env_clear()
        .env("PYTHONHASHSEED", "0")
        .exec();
    let reason = format!("execve `{}`: {error}", plan.interpreter.display());
    say(socket, &Report::Failed(reason.clone()))?;
    Err(reason)
}

/// Writes a line to the socket.
fn say(socket: OwnedFd, report: &Report) -> Result<OwnedFd, String> {
    let mut line = serde_json::to_string(report).map_err(|error| error.to_string())?;
    line.push('\n');
    let mut stream = UnixStream::from(socket);
    stream.write_all(line.as_bytes()).map_err(|error| format!("socket: {error}"))?;
    Ok(stream.into())
}

/// Puts up the layers.
fn confine(plan: &Plan) -> Result<Layers, String> {
    let user = system::user(); // as the kernel counts it: inside the namespace it would be "nobody"
    system::new_session().map_err(|error| format!("setsid: {error}"))?;
    let namespaces = system::unshare_namespaces().is_ok();
    system::die_with_parent(plan.parent).map_err(|error| format!("PR_SET_PDEATHSIG: {error}"))?;
    let capabilities_dropped = system::drop_capabilities().is_ok();
    // The kernel counts all threads of the user, in a namespace of its own only ours.
    let others = if namespaces { 0 } else { threads_of(user) };
    limit(libc::RLIMIT_NPROC, others + THREADS, "NPROC")?;
    limit(libc::RLIMIT_CORE, 0, "CORE")?;
    limit(libc::RLIMIT_FSIZE, 0, "FSIZE")?;
    limit(libc::RLIMIT_STACK, STACK_BYTES, "STACK")?;
    limit(libc::RLIMIT_NOFILE, DESCRIPTORS, "NOFILE")?;
    limit(libc::RLIMIT_AS, plan.memory_bytes, "AS")?;
    system::set_limit(libc::RLIMIT_CPU, plan.cpu_s, plan.cpu_s + 1).map_err(|error| format!("setrlimit CPU: {error}"))?;
    let landlock_abi = files::restrict(plan).map_err(|error| format!("landlock: {error}"))?;
    if landlock_abi.is_none() && !plan.unsafe_exec {
        return Err("landlock: expected Linux 5.13 or newer with landlock enabled, found it not enforced".to_owned());
    }
    filter::install().map_err(|error| format!("seccomp: {error}"))?;
    // Differs: the design has this limit hold for root in a namespace; the kernel exempts the machine's root there too. What is left for
    // root is the address space: about a thousand threads of the smallest stacks fit.
    let thread_limit = user != 0;
    Ok(Layers { namespaces, landlock_abi, seccomp: true, rlimits: true, thread_limit, capabilities_dropped })
}

/// A hard limit. One that is stricter already stays as it is: raising it needs rights that we may not have.
fn limit(resource: system::Resource, value: u64, name: &str) -> Result<(), String> {
    match system::set_limit(resource, value, value) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(format!("setrlimit {name}: {error}")),
        _ => Ok(()),
    }
}

/// Threads that run as this user on the machine, as far as they can be seen.
fn threads_of(user: u32) -> u64 {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let own = processes.flatten().filter(|entry| {
        let numbered = entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        numbered && entry.metadata().is_ok_and(|metadata| metadata.uid() == user)
    });
    own.map(|entry| std::fs::read_dir(entry.path().join("task")).map_or(1, |tasks| tasks.count() as u64)).sum()
}
