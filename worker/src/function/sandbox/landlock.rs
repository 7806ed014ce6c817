//! Landlock: which files may be opened, and what of other processes may be reached.
//!
//! Rule: what the kernel's version knows is used, from its first version on.

use super::{Allowed, DEVICES};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// The version that is requested; an older kernel applies what it has.
const NEWEST: ABI = ABI::V7;

/// Restricts this process.
pub fn restrict(allowed: &Allowed) -> Result<String, String> {
    let status = with(allowed).map_err(|error| streamctl_proto::describe(&error))?;
    let landlock::LandlockStatus::Available { effective_abi, .. } = status.landlock else {
        return Err(match status.landlock {
            LandlockStatus::NotEnabled => "Landlock is not enabled in this kernel".into(),
            _ => "this kernel has no Landlock, or the container forbids it".into(),
        });
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => {
            Ok(format!("version {}", effective_abi as i32))
        }
        RulesetStatus::NotEnforced => Err("Landlock refused its rules".into()),
    }
}

fn with(allowed: &Allowed) -> Result<landlock::RestrictionStatus, RulesetError> {
    let read = AccessFs::from_read(NEWEST);
    let all = AccessFs::from_all(NEWEST);
    let device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
    let mut rules = Ruleset::default()
        .handle_access(all)?
        .scope(Scope::from_all(NEWEST))?;
    if !allowed.network {
        rules = rules.handle_access(AccessNet::from_all(NEWEST))?;
    }
    rules
        .create()?
        .add_rules(path_beneath_rules(allowed.readable(), read))?
        .add_rules(path_beneath_rules(DEVICES, device))?
        .add_rules(path_beneath_rules([&allowed.home], all))?
        .restrict_self()
}
