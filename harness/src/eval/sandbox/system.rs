//! The system calls of the sandbox that the standard library has no safe form of.
//!
//! All but [`kill_group`] run in the launcher (`child.rs`), a process of one thread that is about to become the interpreter.
//! Sources: setsid(2), prctl(2), unshare(2), setrlimit(2), capabilities(7), close_range(2).

#![expect(
    unsafe_code,
    reason = "limits, namespaces, capabilities and process groups have no safe interface in the standard library"
)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Newest version of the capability structures (`_LINUX_CAPABILITY_VERSION_3`): 64 bits in two words.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// `SECBIT_NOROOT` and its lock: user 0 gains nothing by `execve`.
const NO_ROOT_LOCKED: libc::c_ulong = 0b11;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor but 0, 1 and 2: what the harness's own caller left open must not reach a program.
pub(super) fn close_inherited() -> io::Result<()> {
    // SAFETY: called first in the launcher, before it opens anything; no owner of a descriptor above 2 exists yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the session, so that no terminal is left and the group can be killed as one.
pub(super) fn new_session() -> io::Result<()> {
    // SAFETY: takes no arguments, touches no memory.
    if unsafe { libc::setsid() } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks for SIGKILL when the parent dies. After namespaces: a change of credentials would clear it.
pub(super) fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: prctl with constants; reads no memory.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) })?;
    // The parent may have died just before the call.
    if std::os::unix::process::parent_id() == parent { Ok(()) } else { Err(io::Error::other("the parent process is gone")) }
}

/// Own user, network, IPC and host-name namespaces. Needs a process of one thread.
pub(super) fn unshare_namespaces() -> io::Result<()> {
    // SAFETY: flags only; no memory is shared with another thread, as there is none.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) })
}

/// Effective user id.
pub(super) fn user() -> libc::uid_t {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() }
}

/// Gives up every capability, and for user 0 the way back to them through `execve`.
pub(super) fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    // SAFETY: prctl with constants; reads no memory.
    let no_root = check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, NO_ROOT_LOCKED, 0, 0, 0) });
    let header = Header { version: CAPABILITY_VERSION_3, pid: 0 };
    let none = [Sets { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: header and sets have the layout of capset(2) for version 3 (two sets of words) and outlive the call, which only reads them.
    let result = unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), none.as_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // An ordinary user may not set the bits and does not need them.
    if user() == 0 { no_root } else { Ok(()) }
}

/// A resource of setrlimit(2), whose type differs between C libraries.
#[cfg(target_env = "musl")]
pub(super) type Resource = libc::c_int;
/// A resource of setrlimit(2), whose type differs between C libraries.
#[cfg(not(target_env = "musl"))]
pub(super) type Resource = libc::__rlimit_resource_t;

/// Sets a soft and a hard limit.
pub(super) fn set_limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft as libc::rlim_t, rlim_max: hard as libc::rlim_t };
    // SAFETY: the structure outlives the call, which only reads it.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// Puts `fd` at standard input.
pub(super) fn replace_stdin(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open; nothing has buffered from standard input.
    if unsafe { libc::dup2(fd.as_raw_fd(), 0) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets `fd` survive `execve`.
pub(super) fn keep_across_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed; the call takes integers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) })
}

/// Kills a process group. That it does not exist (yet, or any more) is no error.
pub(super) fn kill_group(leader: u32) {
    let Ok(group) = libc::pid_t::try_from(leader) else { return };
    // SAFETY: a signal to a group whose leader is our own child that has not been waited for, so the number cannot have been reused.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}
