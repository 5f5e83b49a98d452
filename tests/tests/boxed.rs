//! `torbox run` on the native backend, end to end: every test for root and for an unprivileged user, over one private Tor network.
//!
//! A test is named for the guarantee that it proves. It asserts what must not be, and a positive control proves that it would
//! have been seen. Nothing leaves the network namespaces that the tests made.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

#[path = "boxed/closed.rs"]
mod closed;
#[path = "boxed/endings.rs"]
mod endings;
#[path = "boxed/ground.rs"]
mod ground;
#[path = "boxed/page.rs"]
mod page;
#[path = "boxed/probe.rs"]
mod probe;
#[path = "boxed/state.rs"]
mod state;

/// Makes of each function two tests, `name::as_root` and `name::as_a_user`.
macro_rules! as_both {
    ($($(#[$doc:meta])* $name:ident: $test:path;)+) => {$(
        $(#[$doc])*
        mod $name {
            #[test]
            fn as_root() {
                crate::as_one!(Kind::Root, $test);
            }

            #[test]
            fn as_a_user() {
                crate::as_one!(Kind::User, $test);
            }

            use crate::ground::Kind;
        }
    )+};
}

/// Runs a test on the common ground, where the machine has what it needs.
macro_rules! as_one {
    ($kind:expr, $test:path) => {
        torbox_tests::require!("root", "tor", "tor-gencert", "ip", "setpriv", "useradd", "newuidmap", "Xvfb", "tesseract");
        crate::ground::with($kind, $test);
    };
}
pub(crate) use as_one;

as_both! {
    /// The page behind an exit, the inner sandbox while it is shown, and what other calls say of the box meanwhile.
    g9_the_page_comes_through_an_exit_and_the_content_sandbox_is_on: crate::page::exit_page;
    /// The page of an onion service.
    the_onion_page_comes: crate::page::onion_page;
    /// Two boxes of one caller.
    two_boxes_run_side_by_side: crate::page::two_boxes;
    /// What a program in the browser's place can see and reach.
    g1_g2_g7_g8_the_probe_finds_no_network_no_socket_no_place_and_no_privilege: crate::probe::finds_nothing;
    /// The same of the host's names and paths.
    g6_the_probe_finds_no_name_and_no_path_of_the_host: crate::probe::knows_no_host;
    /// Every way in which a user ends a box.
    g11_an_orderly_end_leaves_nothing: crate::endings::orderly;
    /// Every process of a box killed, one at a time.
    g11_a_killed_part_ends_the_box_and_leaves_nothing: crate::endings::killed;
    /// torbox itself killed, at every step of the launch.
    g11_torbox_killed_during_the_launch_leaves_nothing: crate::endings::killed_at_every_step;
    /// tor that may not connect.
    g11_a_tor_without_network_lets_nothing_out: crate::closed::tor_without_network;
    /// tor that does not answer for a while.
    g4_a_stopped_tor_lets_nothing_out_until_it_goes_on: crate::closed::tor_stopped;
    /// Guards survive the box.
    tors_guards_are_kept_for_the_next_run: crate::state::guards_are_kept;
    /// What lies in the place of a kept file is not followed.
    a_link_in_the_place_of_tors_state_is_not_followed: crate::state::links_are_not_followed;
}

/// A container that is not what was planned. bwrap takes away what an unprivileged torbox needs, hence root alone.
#[test]
fn g8_a_container_that_differs_from_the_plan_is_not_started() {
    torbox_tests::require!("bwrap");
    as_one!(ground::Kind::Root, closed::a_mismatch_starts_nothing);
}

/// A Wayland compositor takes clients of its own user only: the one case in which the browser has the caller's id.
#[test]
fn the_page_is_shown_on_wayland() {
    torbox_tests::require!("weston", "weston-screenshooter");
    as_one!(ground::Kind::User, page::on_wayland);
}
