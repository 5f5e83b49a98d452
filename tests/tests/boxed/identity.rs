//! The browser on the control server, and new identities from outside. The stand-in prints what the control server says as
//! `control: ...`, and torbox prints that with `--verbose`.

use std::collections::BTreeSet;
use std::time::Duration;

use torbox_tests::boxed::RunningBox;
use torbox_tests::display::Xvfb;
use torbox_tests::wait;

use crate::ground::{Stage, soon};
use crate::state::{dir_of, guards};

/// What stands for every entry hop (`runtime/plan/policy/gate/control.toml`).
const HIDDEN: &str = "$0000000000000000000000000000000000000000";
/// tor would change to pairs of circuits when it has built them, again and again in a network of few relays (tor(1)).
const ONE_CIRCUIT: &str = "\nConfluxEnabled 0\n";
const PAUSE: Duration = Duration::from_millis(50);

/// The browser authenticates and is shown its circuits without their entry; a new identity gives it others.
pub(crate) fn new_identity(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let url = format!("{}again", stage.ground.net.state().named_url);
    let torrc = stage.torrc_with(ONE_CIRCUIT);
    let mut running = stage.start(stage.run_command_with(&display, "identity", &url, &torrc), "identity");
    running.wait_until_said("browser: control: 250 OK", soon(30)).unwrap();
    let before = settled(&running, &[]);
    assert_eq!(stage.call(&["new-identity", "identity"]), (Some(0), String::new(), String::new()));
    // If the page was just being loaded, its connection ended with the circuit, and so did its loading itself.
    assert_eq!(stage.call(&["open", "--name", "identity", &url]).0, Some(0));
    settled(&running, &before);

    let said = running.said();
    let paths: Vec<_> = said.lines().filter(|line| line.contains("control: 650 CIRC ") && line.contains(" BUILT ")).collect();
    assert!(!paths.is_empty() && paths.iter().all(|line| line.contains(&format!(" BUILT {HIDDEN}"))), "{paths:#?}");
    assert_eq!(running.interrupt().unwrap(), Some(0));
    let entries = guards(&dir_of(stage, "identity").join("state"));
    let fingerprints: BTreeSet<_> = entries.iter().filter_map(|guard| guard.split(' ').next()?.strip_prefix("rsa_id=").map(str::to_owned)).collect();
    assert!(!fingerprints.is_empty(), "{entries:?}");
    for guard in &fingerprints {
        // A guard may be the exit of another circuit and is then shown as such, but never behind the first `$`.
        let first_hops = paths.iter().filter_map(|line| line.split(" BUILT $").nth(1)?.get(..40));
        assert!(first_hops.into_iter().all(|hop| hop != guard), "{guard} in {paths:#?}");
    }
    let (code, out, said) = stage.call(&["new-identity", "identity"]);
    assert_eq!((code, out.as_str()), (Some(3), ""), "{said}");
    assert!(said.starts_with("torbox: box identity is not running\n"), "{said}");
}

/// Every circuit used so far, once the last three streams shared one that is none of `before`: the page loads itself again every second.
fn settled(running: &RunningBox, before: &[String]) -> Vec<String> {
    let shared = |used: &Vec<String>| used.last_chunk::<3>().is_some_and(|[a, b, c]| a == b && b == c && !before.contains(c));
    // tor gives a circuit up that does not get on, and only then takes another (CircuitBuildTimeout).
    let found = wait::retry(PAUSE, soon(150), || Some(streams(&running.said())).filter(shared));
    let used = || streams(&running.said()).join(" ");
    found.unwrap_or_else(|| panic!("no circuit was shared, but used were {}, before {}:\n{}", used(), before.join(" "), running.said()))
}

/// The circuits of the streams that succeeded, in order: `650 STREAM id SUCCEEDED circuit host:port`.
fn streams(said: &str) -> Vec<String> {
    let lines = said.lines().filter_map(|line| line.split_once("control: 650 STREAM ")?.1.split_once(" SUCCEEDED "));
    lines.filter_map(|(_, rest)| rest.split(' ').next().map(str::to_owned)).collect()
}
