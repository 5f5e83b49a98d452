//! The gate alone, between real clients and the real tor of a private network, started as its README says.
//!
//! Clients: curl and torsocks on the SOCKS side, Python's stem and nyx on the control side, and the commands of Tor Browser's
//! tor-launcher. (Firefox's own SOCKS loads pages through the gate in `boxed.rs`.) What only tor knows is collected from tor
//! itself, and never comes out of the gate.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

#[path = "gate/clients.rs"]
mod clients;
#[path = "gate/control.rs"]
mod control;
#[path = "gate/launcher.rs"]
mod launcher;
#[path = "gate/scene.rs"]
mod scene;
#[path = "gate/taint.rs"]
mod taint;

/// Makes a test of each function, on the common network, where the machine has what it needs.
macro_rules! on_the_network {
    ($($(#[$doc:meta])* $name:ident: $test:path;)+) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            torbox_tests::require!("root", "tor", "tor-gencert", "ip", "curl", "socat", "torsocks", "nyx", "script");
            $test(&scene::Ground::take());
        }
    )+};
}

on_the_network! {
    /// Both command lines of the README, its torrc and nothing else.
    the_readme_s_command_lines_work_alone: clients::alone;
    /// curl and torsocks: pages come, and what the policy refuses is refused in the protocol's words.
    g4_socks_clients_get_pages_and_refusals: clients::socks;
    /// stem and nyx: what is allowed works, what is not is an error that they understand, and the connection goes on.
    g5_control_clients_work_and_hear_errors: clients::control;
    /// tor-launcher's commands, one by one, and what its code reads from the answers.
    tor_launcher_reads_every_answer: launcher::replay;
    /// A client with a guard.
    g5_nothing_of_the_guard_or_of_tor_comes_out: taint::with_a_guard;
    /// A client with a bridge.
    g5_nothing_of_the_bridge_comes_out: taint::with_a_bridge;
}
