//! Where a number came from: the machine, the program, the time. What cannot be read is null, never guessed.
//!
//! No host name and no user name is stored.

use records::{Build, Host};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine as seen by this process.
pub fn host(threads: usize) -> Host {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let cpu_field = |name: &str| {
        cpuinfo.lines().find(|line| line.starts_with(name)).and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    let has_hypervisor = cpu_field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    Host {
        cpu_model: cpu_field("model name"),
        cpus_online: std::thread::available_parallelism().ok().map(|count| count.get() as u64),
        threads: Some(threads as u64),
        ranks: Some(1),
        virt: has_hypervisor.then(|| read("/sys/class/dmi/id/sys_vendor").unwrap_or_else(|| "hypervisor".to_owned())),
        mem_total_bytes: mem_total_bytes(),
        kernel: read("/proc/sys/kernel/osrelease"),
        os: read("/etc/os-release").and_then(|text| pretty_name(&text)).or_else(|| Some(std::env::consts::OS.to_owned())),
        governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        smt: read("/sys/devices/system/cpu/smt/control"),
        thp: read("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| bracketed(&text)),
        ..Host::default()
    }
    .with_fingerprint()
}

/// The program.
pub fn build() -> Build {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (git_commit, git_dirty) = built_s().map_or((None, None), |built| sources_at(root, built));
    Build {
        git_commit,
        git_dirty,
        binary_sha256: std::env::current_exe().ok().and_then(|path| crate::data::source::sha256(&path).ok()),
        lockfile_sha256: Some(records::ids::sha256_hex(include_bytes!("../../Cargo.lock"))),
        rustc: some(env!("HARNESS_RUSTC")),
        target: some(env!("HARNESS_TARGET")),
        cargo_profile: some(env!("HARNESS_PROFILE")),
        target_features: some(env!("HARNESS_TARGET_FEATURES")),
        cargo_features: some(env!("HARNESS_FEATURES")),
        harness_version: some(env!("CARGO_PKG_VERSION")),
    }
}

/// The command line of this process, with the program's folder left out.
pub fn command() -> Vec<String> {
    let mut arguments: Vec<String> = std::env::args().collect();
    if let Some(program) = arguments.first_mut() {
        *program =
            Path::new(&*program).file_name().map_or_else(|| "harness".to_owned(), |name| name.to_string_lossy().into_owned());
    }
    arguments
}

/// Now, UTC, RFC 3339 to the second.
pub fn utc_now() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs()))
}

/// Seconds since 1970 as RFC 3339.
fn utc(seconds: u64) -> String {
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of days since 1970-01-01. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Memory of the machine, bytes.
pub fn mem_total_bytes() -> Option<u64> {
    meminfo("MemTotal:")
}

/// Memory that can be had without swapping, bytes.
pub fn mem_available_bytes() -> Option<u64> {
    meminfo("MemAvailable:")
}

fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn pretty_name(os_release: &str) -> Option<String> {
    os_release.lines().find_map(|line| Some(line.strip_prefix("PRETTY_NAME=")?.trim_matches('"').to_owned()))
}

/// The chosen word of a kernel setting such as `always [madvise] never`.
fn bracketed(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// When this program's file was written, seconds since 1970.
fn built_s() -> Option<u64> {
    let built = std::env::current_exe().ok()?.metadata().ok()?.modified().ok()?;
    Some(built.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// The commit that was checked out when a program's file was written, and whether the sources differ from it: a program that stayed while the
/// sources moved on is not of the newer commits.
///
/// The file's time and the log of what was checked out are all there is to go by. A file that was copied later seems newer than its build,
/// and a build that took long seems to be of what was checked out at its end. No commit without a log (an unpacked archive of the sources),
/// and where the log begins after the file's time (a program older than the clone). Whether sources differ is read now, so it is unknown
/// where another commit is checked out, and says nothing of changes made or undone since the build.
fn sources_at(root: &Path, built_s: u64) -> (Option<String>, Option<bool>) {
    let commit = commit_at(root, built_s);
    let is_head = commit.is_some() && commit == git(root, &["rev-parse", "HEAD"]);
    let is_dirty = || git(root, &["status", "--porcelain"]).map(|status| !status.is_empty());
    (commit, if is_head { is_dirty() } else { None })
}

/// What was checked out at a time, seconds since 1970. Not by `HEAD@{time}`, which gives the oldest entry for any time before it, nor by the
/// commits' own times: a merge brings in older commits that were never built here.
fn commit_at(root: &Path, seconds: u64) -> Option<String> {
    let log = git(root, &["reflog", "show", "--date=unix", "--format=%H %gd", "HEAD"])?;
    log.lines().find_map(|line| {
        let (commit, entry) = line.split_once(" HEAD@{")?;
        let time: u64 = entry.strip_suffix('}')?.parse().ok()?;
        (time <= seconds).then(|| commit.to_owned())
    })
}

fn git_command(root: &Path) -> Command {
    let mut command = Command::new("git");
    // Set in a hook of git, they would name another repository than the folder's.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    command.arg("-C").arg(root);
    command
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = git_command(root).args(arguments).stderr(std::process::Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merged commits are older than the merge: by their own times a program built before it was of the side branch.
    #[test]
    fn a_program_is_of_the_commit_that_was_checked_out_when_it_was_built() {
        let folder = tempfile::tempdir().unwrap();
        let at = |minute: u64, arguments: &[&str]| {
            let who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
            let date = format!("{} +0000", 1_700_000_000 + 60 * minute);
            let mut command = git_command(folder.path());
            command.args(who).args(arguments).env("GIT_COMMITTER_DATE", &date).env("GIT_AUTHOR_DATE", &date);
            assert!(command.status().unwrap().success());
            git(folder.path(), &["rev-parse", "HEAD"])
        };
        git(folder.path(), &["init", "--quiet", "--initial-branch=main"]).unwrap();
        let first = at(10, &["commit", "--quiet", "--allow-empty", "-m", "first"]);
        at(20, &["checkout", "--quiet", "-b", "side"]);
        let side = at(30, &["commit", "--quiet", "--allow-empty", "-m", "side"]);
        at(40, &["checkout", "--quiet", "main"]);
        let merge = at(50, &["merge", "--quiet", "--no-ff", "--no-edit", "side"]);
        let found = [9, 10, 25, 35, 45, 50, 60].map(|minute| commit_at(folder.path(), 1_700_000_000 + 60 * minute));
        assert_eq!(found, [None, first.clone(), first.clone(), side, first, merge.clone(), merge]);
        // Built with a change that was committed afterwards: whether the sources differ now is not about that program.
        let dirty = |minute: u64| sources_at(folder.path(), 1_700_000_000 + 60 * minute).1;
        assert_eq!([45, 60].map(dirty), [None, Some(false)]);
        std::fs::write(folder.path().join("new"), "").unwrap();
        assert_eq!([45, 60].map(dirty), [None, Some(true)]);
        assert_eq!(commit_at(tempfile::tempdir().unwrap().path(), 1_700_000_000), None);
    }

    #[test]
    fn seconds_become_rfc_3339() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z"); // leap day of a century divisible by 400
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(1_735_689_600), "2025-01-01T00:00:00Z");
    }

    #[test]
    fn kernel_settings_are_read() {
        assert_eq!(bracketed("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"Debian 12\"\n").as_deref(), Some("Debian 12"));
    }

    #[test]
    fn host_fingerprint_depends_on_threads() {
        assert_eq!(host(1).host_fingerprint, host(1).host_fingerprint);
        assert_ne!(host(1).host_fingerprint, host(2).host_fingerprint);
    }
}
