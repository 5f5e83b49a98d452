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

#[path = "boxed/bridge.rs"]
mod bridge;
#[path = "boxed/closed.rs"]
mod closed;
#[path = "boxed/compose.rs"]
mod compose;
#[path = "boxed/endings.rs"]
mod endings;
#[path = "boxed/engines.rs"]
mod engines;
#[path = "boxed/faults.rs"]
mod faults;
#[path = "boxed/files.rs"]
mod files;
#[path = "boxed/ground.rs"]
mod ground;
#[path = "boxed/hosts.rs"]
mod hosts;
#[path = "boxed/identity.rs"]
mod identity;
#[path = "boxed/kube.rs"]
mod kube;
#[path = "boxed/nested.rs"]
mod nested;
#[path = "boxed/newcomer.rs"]
mod newcomer;
#[path = "boxed/page.rs"]
mod page;
#[path = "boxed/parent.rs"]
mod parent;
#[path = "boxed/probe.rs"]
mod probe;
#[path = "boxed/screens.rs"]
mod screens;
#[path = "boxed/served.rs"]
mod served;
#[path = "boxed/sound.rs"]
mod sound;
#[path = "boxed/state.rs"]
mod state;
#[path = "boxed/truth.rs"]
mod truth;
#[path = "boxed/x11.rs"]
mod x11;

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
    /// A browser that is not started before tor is connected.
    a_browser_that_waits_starts_when_tor_is_connected: crate::page::waits;
    /// The page of an onion service.
    the_onion_page_comes: crate::page::onion_page;
    /// The control server as the browser sees it, and `torbox new-identity`.
    g5_the_browser_is_shown_circuits_without_entry_and_gets_new_identities: crate::identity::new_identity;
    /// A download comes out of a box, a file goes in, and nothing else either way.
    g7_files_leave_and_enter_by_the_users_action_alone: crate::files::downloads_and_uploads;
    /// Two boxes of one caller.
    two_boxes_run_side_by_side: crate::page::two_boxes;
    /// What a program in the browser's place can see and reach.
    g1_g2_g7_g8_the_probe_finds_no_network_no_socket_no_place_and_no_privilege: crate::probe::finds_nothing;
    /// Every attempt that `torbox audit` makes.
    g1_g2_g3_g4_g7_g8_g9_every_attempt_to_get_out_fails: crate::probe::holds;
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
    /// Processes, files and memory without end.
    g7_g8_what_hogs_the_machine_is_cut_off_and_the_box_ends_in_order: crate::faults::hogs;
    /// Parts that stand still when the box shall end.
    g11_a_box_with_a_part_that_stands_still_ends: crate::faults::stopped_parts;
    /// The gate, and everything, that stands still for a while.
    g4_a_standstill_lets_nothing_out: crate::faults::standstill;
    /// The user's display server, of which a box has only a display.
    g11_a_display_server_that_stands_still_or_ends_leaves_nothing: crate::faults::display_servers;
    /// A display of the box's own on an X server: pages, hands, and what a client finds there.
    g3_a_nested_display_shows_pictures_and_tells_nothing_of_the_server: crate::nested::on_x11;
    /// A box where there is no display server.
    a_served_display_is_a_page_for_who_has_its_address: crate::served::in_a_browser;
    /// A hostile X client in the browser's place.
    g3_an_x_client_of_the_box_is_not_trusted: crate::x11::hostile;
    /// torbox's own processes.
    g12_torbox_holds_only_what_it_supervises_with: crate::parent::holds_only_what_it_supervises_with;
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

/// What a profile keeps, as an archive, too.
#[test]
fn a_profile_is_kept_for_the_next_run() {
    as_one!(ground::Kind::User, state::profiles_are_kept);
}

/// An X server as many Xwaylands are.
#[test]
fn a_nested_display_is_had_of_a_server_that_trusts_everyone_and_said_to_be() {
    as_one!(ground::Kind::User, nested::on_a_server_without_the_extension);
}

#[test]
fn what_is_copied_goes_the_ways_that_the_user_wants() {
    as_one!(ground::Kind::User, nested::one_way);
}

/// A browser with a sound server of its user's.
#[test]
fn a_box_is_heard_through_pulseaudio() {
    torbox_tests::require!("bwrap");
    as_one!(ground::Kind::User, sound::heard_through_pulseaudio);
}

#[test]
fn a_box_is_heard_through_pipewire() {
    torbox_tests::require!("bwrap");
    as_one!(ground::Kind::User, sound::heard_through_pipewire);
}

#[test]
fn a_box_is_not_heard_else() {
    torbox_tests::require!("bwrap");
    as_one!(ground::Kind::User, sound::not_heard);
}

/// Bridges, right, wrong and dead.
#[test]
fn through_a_bridge_nobody_else_is_contacted() {
    as_one!(ground::Kind::User, bridge::bridges);
}

/// Bridges that speak obfs4, right, wrong and dead.
#[test]
fn through_obfs4_nobody_but_the_bridge_is_contacted() {
    torbox_tests::require!("obfs4proxy");
    as_one!(ground::Kind::User, bridge::obfs4);
}

/// Bridges that the browser's release brings.
#[test]
fn built_in_bridges_come_from_the_image() {
    torbox_tests::require!("obfs4proxy", "tar", "gzip", "sha256sum");
    as_one!(ground::Kind::User, bridge::builtin);
}

/// Bridges that are asked for, of a service of the private network.
#[test]
fn bridges_are_asked_for_through_an_exit_alone() {
    torbox_tests::require!("openssl");
    as_one!(ground::Kind::User, bridge::requests);
}

/// A Snowflake with its broker, its proxy and its bridge.
#[test]
fn through_snowflake_nobody_but_its_own_is_contacted() {
    torbox_tests::require!("dnsmasq", "unshare", "socat", "openssl");
    as_one!(ground::Kind::User, bridge::snowflake);
}

/// A bridge behind meek's server, which a front brings requests to.
#[test]
fn through_meek_nobody_but_its_front_is_contacted() {
    torbox_tests::require!("dnsmasq", "unshare", "socat", "openssl", "curl", "microsocks");
    as_one!(ground::Kind::User, bridge::meek);
}

/// What lies on the way out of many networks.
#[test]
fn through_a_proxy_nobody_else_is_contacted() {
    torbox_tests::require!("microsocks", "tinyproxy");
    as_one!(ground::Kind::User, bridge::proxies);
}

/// Seen from outside; what the caller is makes no difference to the network.
#[test]
fn g1_g3_only_tor_sends_and_only_to_its_relays() {
    torbox_tests::require!("bwrap");
    as_one!(ground::Kind::User, truth::only_tor_sends);
}

/// Parts that stand still while a box is made.
#[test]
fn g11_a_part_that_stands_still_in_the_launch_starts_nothing() {
    as_one!(ground::Kind::User, faults::frozen_in_the_launch);
}

/// What two boxes can read, on unlike machines.
#[test]
fn g6_two_unlike_hosts_differ_in_what_is_listed_alone() {
    torbox_tests::require!("unshare", "taskset", "busybox");
    as_one!(ground::Kind::User, hosts::two_unlike);
}

#[test]
fn hands_work_on_wayland() {
    torbox_tests::require!("sway", "setxkbmap");
    as_one!(ground::Kind::User, page::hands_on_wayland);
}

/// A Wayland compositor takes clients of its own user only: the one case in which the browser has the caller's id.
#[test]
fn the_page_is_shown_on_wayland() {
    torbox_tests::require!("weston", "weston-screenshooter", "sway", "grim", "bwrap");
    as_one!(ground::Kind::User, page::on_wayland);
}

/// The compositors that most people have.
#[test]
fn the_page_is_shown_on_the_compositors_of_gnome_and_plasma() {
    torbox_tests::require!("bwrap");
    as_one!(ground::Kind::User, page::on_desktops);
}

/// What a desktop starts.
#[test]
fn the_entry_of_the_desktop_opens_the_page() {
    torbox_tests::require!("gio");
    as_one!(ground::Kind::User, page::from_an_entry);
}

/// On a terminal and in a pipe.
#[test]
fn screens_of_a_box_are_the_golden_ones() {
    torbox_tests::require!("script");
    as_one!(ground::Kind::User, screens::golden);
}

/// The package, from its installation to its removal.
#[test]
fn a_newcomers_day_leaves_nothing() {
    torbox_tests::require!("make", "unshare", "nsenter", "objdump");
    if !torbox_tests::debian::root().unwrap().is_dir() {
        assert!(!torbox_tests::require::must_work(), "out/debian is not made: make out/debian");
        return;
    }
    as_one!(ground::Kind::Root, newcomer::a_day);
}

/// Makes a test of each function, for one kind of caller.
macro_rules! as_only {
    ($kind:ident; $($(#[$doc:meta])* $name:ident: $test:path, $($need:literal),+;)+) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            torbox_tests::require!($($need),+);
            as_one!(ground::Kind::$kind, $test);
        }
    )+};
}

as_only! {
    Root;
    /// Two boxes of one name.
    two_installations_may_have_boxes_of_one_name: page::twins, "tor";
    /// A page instead of a display server, through Podman and Docker.
    engine_podman_serves_a_display: served::in_podman, "podman", "runc";
    engine_docker_serves_a_display: served::in_docker, "dockerd", "docker";
    /// The pages, through Docker.
    engine_docker_shows_the_pages: engines::docker_pages, "dockerd", "docker";
    /// The pages, through Podman.
    engine_podman_shows_the_pages: engines::podman_pages, "podman", "runc";
    /// The page through a bridge that speaks obfs4.
    engine_docker_speaks_obfs4: bridge::obfs4_in_docker, "dockerd", "docker", "obfs4proxy";
    /// The same through Podman.
    engine_podman_speaks_obfs4: bridge::obfs4_in_podman, "podman", "runc", "obfs4proxy";
    /// A bridge behind meek's front.
    engine_docker_speaks_meek: bridge::meek_in_docker, "dockerd", "docker", "dnsmasq", "unshare", "socat", "openssl";
    /// The same through Podman.
    engine_podman_speaks_meek: bridge::meek_in_podman, "podman", "runc", "dnsmasq", "unshare", "socat", "openssl";
    /// The page through a Snowflake, also from a compose file, and where the engine is another machine's.
    g3_engine_docker_speaks_snowflake_and_tor_alone_asks_for_names: bridge::snowflake_in_docker, "dockerd", "docker", "docker-compose", "dnsmasq", "unshare", "socat", "openssl";
    /// The same through Podman.
    g3_engine_podman_speaks_snowflake_and_tor_alone_asks_for_names: bridge::snowflake_in_podman, "podman", "runc", "python3", "dnsmasq", "unshare", "socat", "openssl";
    /// The probe, and the same probe in a plain container.
    g1_g2_g7_g8_engine_docker_the_probe_finds_nothing: engines::docker_probe, "dockerd", "docker";
    /// The same through Podman.
    g1_g2_g7_g8_engine_podman_the_probe_finds_nothing: engines::podman_probe, "podman", "runc";
    /// The pages, the probe and a weakened file, through docker-compose.
    g1_g2_g7_g8_compose_docker_runs_the_box_without_torbox: compose::docker, "dockerd", "docker", "docker-compose";
    /// The pages and the probe, through podman-compose.
    g1_g2_g7_g8_compose_podman_runs_the_box_without_torbox: compose::podman, "podman", "runc", "python3", "weston", "weston-screenshooter";
    /// A Docker that does something else than it is asked.
    g8_engine_docker_that_tampers_is_refused: engines::docker_tampering, "dockerd", "docker";
    /// A Docker that hangs, is not there, or is killed under a box.
    g11_engine_docker_that_fails_leaves_nothing: engines::docker_faults, "dockerd", "docker";
    /// The same of Podman.
    g11_engine_podman_that_fails_leaves_nothing: engines::podman_faults, "podman", "runc";
    /// An image that is deleted, two at once, Ctrl-C in every phase, a full disk.
    g11_engine_docker_in_disorder_leaves_nothing: engines::docker_disorder, "dockerd", "docker";
    /// The same of Podman.
    g11_engine_podman_in_disorder_leaves_nothing: engines::podman_disorder, "podman", "runc";
    /// What the nearest file for `podman kube play` leaves open.
    compose_kube_is_refused_for_what_a_pod_leaves_open: kube::podman, "podman", "runc", "catatonit";
    /// A Docker whose files, processes and network are another machine's.
    g1_g2_g7_g8_engine_docker_elsewhere_needs_no_shared_path: engines::docker_elsewhere, "dockerd", "docker", "unshare";
    /// The same of Podman.
    g1_g2_g7_g8_engine_podman_elsewhere_needs_no_shared_path: engines::podman_elsewhere, "podman", "runc", "unshare";
    /// A Podman that does something else than it is asked.
    g8_engine_podman_that_tampers_is_refused: engines::podman_tampering, "podman", "runc";
    /// What is not the box's, and what a killed box leaves.
    g11_engine_docker_leaves_nothing_and_touches_nothing_foreign: engines::docker_leaves_foreign_things_alone, "dockerd", "docker";
    /// The same in Podman.
    g11_engine_podman_leaves_nothing_and_touches_nothing_foreign: engines::podman_leaves_foreign_things_alone, "podman", "runc";
}

as_only! {
    User;
    /// The pages, through a Docker of the user's own.
    engine_rootless_docker_shows_the_pages: engines::rootless_docker_pages, "dockerd", "docker", "rootlesskit", "slirp4netns";
    /// A Snowflake, through a Docker of the user's own.
    engine_rootless_docker_speaks_snowflake: bridge::snowflake_in_rootless_docker, "dockerd", "docker", "rootlesskit", "slirp4netns", "dnsmasq", "unshare", "socat", "openssl";
    /// The same through Podman.
    engine_rootless_podman_speaks_snowflake: bridge::snowflake_in_rootless_podman, "podman", "runc", "dnsmasq", "unshare", "socat", "openssl";
    /// The pages, through a Podman of the user's own.
    engine_rootless_podman_shows_the_pages: engines::rootless_podman_pages, "podman", "runc";
    /// The probe, and the same probe in a plain container.
    g1_g2_g7_g8_engine_rootless_docker_the_probe_finds_nothing: engines::rootless_docker_probe, "dockerd", "docker", "rootlesskit", "slirp4netns";
    /// The same through Podman.
    g1_g2_g7_g8_engine_rootless_podman_the_probe_finds_nothing: engines::rootless_podman_probe, "podman", "runc";
}
