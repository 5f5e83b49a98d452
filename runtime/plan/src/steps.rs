//! The order of a launch, as data. An executor is one loop over [`LAUNCH`]; the documents print it.

use crate::ids::Role;
use crate::intent::Start;
use crate::plan::Plan;
use serde::Serialize;

/// One action of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Which action.
    pub action: Action,
    /// What would break if it came earlier, or were left out.
    pub why: &'static str,
    /// How it is undone.
    pub undo: Undo,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Enter namespaces of the runtime's own, with a root file system made of what the plan names.
    Enclose,
    /// Create a container, stopped before its program.
    Create(Role),
    /// Read the facts back from the created container and compare.
    Verify(Role),
    /// Let a container's program run.
    Start(Role),
    /// Wait until all that the browser connects to listens.
    AwaitListeners,
    /// Wait until tor is connected to its network, where that is wanted.
    AwaitNetwork,
    /// Wait until a container's init has proved that nothing gets out.
    Prove(Role),
    /// Give up all that supervising a box does not need.
    Confine,
}

impl Action {
    /// The role whose container it concerns, if it is one.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::Create(role) | Self::Verify(role) | Self::Start(role) | Self::Prove(role) => Some(role),
            Self::Enclose | Self::AwaitListeners | Self::AwaitNetwork | Self::Confine => None,
        }
    }
}

/// How a step is undone. Whatever happens, the kernel undoes all when the runtime's process ends, because the
/// containers live in its PID and mount namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// The end of the runtime's process.
    Namespaces,
    /// Kill the container and delete its state and control group.
    Delete(Role),
    /// Nothing was changed.
    Nothing,
}

const fn step(action: Action, why: &'static str, undo: Undo) -> Step {
    Step { action, why, undo }
}

/// The launch, in order; undone in reverse. [`of`] leaves out the steps of a role for which a plan has no container, and what it does not want.
pub const LAUNCH: [Step; 17] = [
    step(Action::Enclose, "everything after it then ends with this process, even by SIGKILL, and sees no path of the user", Undo::Namespaces),
    step(Action::Create(Role::Tor), "nothing runs before everything is verified", Undo::Delete(Role::Tor)),
    step(Action::Create(Role::Gate), "nothing runs before everything is verified", Undo::Delete(Role::Gate)),
    step(Action::Create(Role::Display), "nothing runs before everything is verified", Undo::Delete(Role::Display)),
    step(Action::Create(Role::Browser), "nothing runs before everything is verified", Undo::Delete(Role::Browser)),
    step(Action::Verify(Role::Tor), "what the kernel made is compared with the plan, not what was asked of it", Undo::Nothing),
    step(Action::Verify(Role::Gate), "the same", Undo::Nothing),
    step(Action::Verify(Role::Display), "the same", Undo::Nothing),
    step(Action::Verify(Role::Browser), "the same", Undo::Nothing),
    step(Action::Start(Role::Tor), "first, because it takes longest to be ready", Undo::Delete(Role::Tor)),
    step(Action::Start(Role::Gate), "before the browser, which would find no socket", Undo::Delete(Role::Gate)),
    step(Action::Start(Role::Display), "likewise", Undo::Delete(Role::Display)),
    step(Action::AwaitListeners, "the browser gives up on a proxy or a display that is not there, and the gate on a tor that is not", Undo::Nothing),
    step(Action::AwaitNetwork, "where it is asked for: a page that is opened before that waits, or gives up", Undo::Nothing),
    step(Action::Start(Role::Browser), "last: its first request waits in tor until a circuit is up", Undo::Delete(Role::Browser)),
    step(Action::Prove(Role::Browser), "its init tries every way out first, and starts no browser where one is open", Undo::Nothing),
    step(Action::Confine, "last: every step before it needs what is given up", Undo::Namespaces),
];

/// The steps of the launch of `plan`.
pub fn of(plan: &Plan) -> impl Iterator<Item = &'static Step> {
    let wanted = |action: Action| action != Action::AwaitNetwork || plan.start == Start::Connected;
    LAUNCH.iter().filter(move |step| wanted(step.action) && step.action.role().is_none_or(|role| plan.container(role).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(action: Action) -> usize {
        LAUNCH.iter().position(|step| step.action == action).unwrap()
    }

    #[test]
    fn g8_nothing_starts_before_everything_is_verified() {
        let last_verify = Role::ALL.map(|role| position(Action::Verify(role))).into_iter().max().unwrap();
        let first_start = Role::ALL.map(|role| position(Action::Start(role))).into_iter().min().unwrap();
        assert!(last_verify < first_start);
    }

    #[test]
    fn browser_starts_after_the_others_listen() {
        for role in [Role::Tor, Role::Gate, Role::Display] {
            assert!(position(Action::Start(role)) < position(Action::AwaitListeners), "{role}");
        }
        assert!(position(Action::AwaitListeners) < position(Action::Start(Role::Browser)));
    }

    #[test]
    fn every_container_is_deleted() {
        for role in Role::ALL {
            assert!(LAUNCH.iter().any(|step| step.undo == Undo::Delete(role)), "{role}");
        }
    }
}
