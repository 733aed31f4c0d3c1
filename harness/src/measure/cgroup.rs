//! A control group of the worker's own, whose high-water mark also counts page cache and child processes.
//!
//! ```text
//! OWN/laurel-worker-PID/   made below the group the worker was started in; the worker moves into it before it builds anything
//! memory.peak              the kernel's own mark
//! ```
//! Needs control groups version 2 with the memory controller delegated to this user; anywhere else there is a reason, not a number.
//!
//! Source: measurement.md section 7; the kernel's "Control Group v2" page.

use std::path::{Path, PathBuf};

/// Where version 2 is mounted.
pub const CGROUP: &str = "/sys/fs/cgroup";

/// The group; leaving scope moves the process back and removes it.
#[derive(Debug)]
pub struct WorkerGroup {
    own: PathBuf,
    group: PathBuf,
}

impl WorkerGroup {
    /// Moves this process into a new group.
    ///
    /// - `root`: [`CGROUP`]; `membership`: the text of `/proc/self/cgroup`.
    ///
    /// # Errors
    /// Why that is not possible here, in words for a row's reason.
    pub fn enter(root: &Path, membership: &str) -> Result<Self, String> {
        if !root.join("cgroup.controllers").is_file() {
            return Err(format!("no control groups of version 2 at `{}`", root.display()));
        }
        let path = membership.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("this process has no version 2 group")?;
        let own = root.join(path.trim());
        let group = own.join(format!("laurel-worker-{}", std::process::id()));
        std::fs::create_dir(&group).map_err(|error| format!("cannot make a control group: {error}"))?;
        let entered = Self { own, group };
        if !entered.group.join("memory.peak").is_file() {
            return Err("the memory controller is not delegated to this process's control group".to_owned());
        }
        std::fs::write(entered.group.join("cgroup.procs"), std::process::id().to_string())
            .map_err(|error| format!("cannot enter a control group: {error}"))?;
        Ok(entered)
    }

    /// The high-water mark, bytes.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn peak_bytes(&self) -> Result<u64, String> {
        let text = std::fs::read_to_string(self.group.join("memory.peak"))
            .map_err(|error| format!("cannot read `memory.peak` of the control group: {error}"))?;
        text.trim().parse().map_err(|_| "`memory.peak` of the control group holds no number".to_owned())
    }
}

impl Drop for WorkerGroup {
    fn drop(&mut self) {
        // A group that cannot be left or removed now stays empty behind the worker, which ends next.
        let _ = std::fs::write(self.own.join("cgroup.procs"), std::process::id().to_string());
        let _ = std::fs::remove_dir(&self.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_without_a_delegated_memory_controller_have_reasons() {
        let root = tempfile::tempdir().unwrap();
        let enter = |membership: &str| WorkerGroup::enter(root.path(), membership).unwrap_err();
        assert!(enter("0::/\n").starts_with("no control groups of version 2"));
        std::fs::write(root.path().join("cgroup.controllers"), "memory\n").unwrap();
        assert_eq!(enter("4:memory:/job\n"), "this process has no version 2 group");
        assert!(enter("0::/missing\n").starts_with("cannot make a control group"));
        // A plain folder stands for a group without the controller: it gets no `memory.peak`, and is removed again.
        assert!(enter("0::/\n").starts_with("the memory controller is not delegated"));
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1 + 1); // cgroup.controllers, cgroup.procs
    }

    #[test]
    fn the_mark_is_a_number_or_a_reason() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("group");
        std::fs::create_dir(&group).unwrap();
        let entered = WorkerGroup { own: root.path().to_owned(), group: group.clone() };
        assert!(entered.peak_bytes().unwrap_err().starts_with("cannot read `memory.peak`"));
        std::fs::write(group.join("memory.peak"), "1048576\n").unwrap();
        assert_eq!(entered.peak_bytes(), Ok(1 << 20));
    }
}
