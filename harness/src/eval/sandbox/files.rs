//! The files a program can reach, by landlock: the interpreter and its libraries to read, nothing to write, no TCP port.
//!
//! Handled are all rights of ABI 6, best effort on older kernels; what those lack (truncation, ports, signals, abstract sockets) the list of
//! system calls refuses as well. Execution is allowed for the interpreter and the files the kernel and loader map for it, not for folders.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use std::path::PathBuf;

use super::protocol::Plan;

/// Newest ABI whose rights are handled (Linux 6.12).
const HANDLED: ABI = ABI::V6;

/// Restricts this process; gives the enforced ABI, nothing when the kernel enforces none.
pub(super) fn restrict(plan: &Plan) -> Result<Option<u32>, RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(HANDLED))?
        .handle_access(AccessNet::from_all(HANDLED))?
        .scope(Scope::from_all(HANDLED))?
        .create()?;
    let ruleset = allow(ruleset, &plan.executable, AccessFs::Execute | AccessFs::ReadFile)?;
    let ruleset = allow(ruleset, &plan.readable, AccessFs::ReadFile | AccessFs::ReadDir)?;
    let status = ruleset.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Some((effective_abi as u32).min(HANDLED as u32)),
        _ => None,
    })
}

/// Adds rules; paths that do not exist are left out, rights that do not fit a file are left away by the best effort.
fn allow(
    ruleset: RulesetCreated,
    paths: &[PathBuf],
    access: landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    paths.iter().filter_map(|path| Some((path, PathFd::new(path).ok()?))).try_fold(ruleset, |ruleset, (path, fd)| {
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(HANDLED) };
        ruleset.add_rule(PathBeneath::new(fd, access))
    })
}
