//! The command line. All of its text lives here; help, manual pages and completions are made from it.

use crate::proxy::{Ports, Proxy};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;
use torbox_images::{Arch, Day, ImageName, Mirror, Via};
use torbox_plan::{Address, AddressError, BoxName, Clipboard};

/// Runs Tor Browser in a box that does not know who you are.
#[derive(Debug, Parser)]
#[command(name = "torbox", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Args {
    /// Keep images, downloads and state below this directory.
    ///
    /// Without it a user's data lies in the XDG base directories, root's in /var/lib/torbox, /var/cache/torbox and
    /// /run/torbox, and on Windows in %LOCALAPPDATA%.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Open the browser in a box.
    ///
    /// Does everything that a first use needs: builds the images, starts tor, opens the browser. Stays in the foreground
    /// until the browser is closed, Ctrl-C is pressed or `torbox stop` is called; then nothing of the box is left. Where a box of this
    /// name already runs, the address is opened in it, as `torbox open` does.
    Run(Run),
    /// Open an address in a running box, or a new window.
    ///
    /// The address is handed to the browser through the box's own lifeline; nothing else goes in, and nothing comes out. `torbox run` does the
    /// same where a box of its name already runs.
    Open(Open),
    /// End a running box.
    Stop(Name),
    /// Give a running box a new identity towards the network.
    ///
    /// Ends every connection of the box; those that follow share no circuit with those before. What pages have stored in the
    /// browser stays: use the browser's own "New identity" to clear that as well.
    NewIdentity(Name),
    /// Put what the browser of a running box copied into the clipboard of your desktop.
    ///
    /// For a box with a display of its own (x11-nested, served), from which nothing that is copied leaves by itself. Only text, without control characters, and a
    /// megabyte at most.
    Copy(Copy),
    /// Show which boxes run.
    Status(Format),
    /// Build the images.
    Build(Build),
    /// Look for a newer browser and newer packages, and build the images anew of them.
    ///
    /// A running box stays on what it runs on; the next start takes the new images. The images before are kept, until the next
    /// update, for --rollback.
    Update(Update),
    /// Check every byte of the images, and of what is unpacked of them.
    Verify,
    /// List the images, or do something with them.
    Images(Images),
    /// Print what `run` would do, without doing it.
    Plan(PlanArgs),
    /// Show what on this machine can make a box: torbox itself, and the engines that are found.
    ///
    /// Looks where Docker, Podman, their desktops and virtual machines put their sockets, at DOCKER_HOST, CONTAINER_HOST and Docker's
    /// contexts, and asks each what it is. Makes nothing.
    Doctor(Format),
    /// Write the box as a compose file, for docker compose, docker-compose and podman-compose.
    ///
    /// They run it without torbox: nobody compares its containers with the plan, but the init of each tries to get out before
    /// anything starts. Writes compose.yaml and the seccomp profiles that it names. --display none gives the probe's box.
    Compose(Compose),
    /// Try every way out of a box, and print what came of each attempt by guarantee.
    ///
    /// If the box runs, they are made beside its browser. Otherwise a box is made exactly as for the browser, and the attempts are made in the browser's place. Fails if one succeeds.
    Audit(Audit),
    /// Run the probe in a box, in the browser's place, and print what it can see and reach.
    ///
    /// The box is made exactly as for the browser, with a display where there is one. The report is one JSON object on standard output.
    Probe(Box),
    /// Show what was downloaded in a running box, or take it out.
    ///
    /// What a box downloads stays in its memory, and is gone when the box ends.
    Downloads {
        #[command(subcommand)]
        action: DownloadsAction,
    },
    /// Put files into a running box, for a page to upload.
    ///
    /// The browser finds copies of them in the directory Uploads of its home, and can read them.
    Upload(Upload),
    /// Put the box among the applications of the desktop, or take it away.
    Desktop {
        #[command(subcommand)]
        action: DesktopAction,
    },
    /// Make, list, remove, export or import profiles: what a browser keeps between runs.
    ///
    /// A profile keeps bookmarks, history, settings and what was permitted to which site, and tor's guards of its box. It keeps no cookies,
    /// logins, open pages or extensions. What takes a browser over can leave something in its profile; a box without one forgets it.
    /// `torbox config edit --profile NAME` gives a profile settings of its own.
    Profile {
        #[command(subcommand)]
        action: ProfileAction,
    },
    /// Add, list or remove bridges, through which tor reaches its network where relays are blocked.
    ///
    /// With a bridge every box goes through bridges alone. Of the pluggable transports torbox has obfs4, snowflake and meek; tor's image with
    /// them is built when a bridge first needs one.
    Bridge {
        #[command(subcommand)]
        action: BridgeAction,
    },
    /// Show, check or change the settings that hold where no flag says otherwise.
    ///
    /// They lie in config.toml in ~/.config/torbox, or in /etc/torbox for root. Every setting has the name and the meaning of a flag of
    /// `torbox run`. A profile can have settings of its own, which are stronger; a variable of the environment is stronger than both
    /// (TORBOX_DISPLAY for display), and a flag than all.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
        /// The settings of this profile: what its own file says, and config.toml where that says nothing.
        #[arg(long, global = true, value_name = "NAME", value_parser = BoxName::new)]
        profile: Option<BoxName>,
    },
    /// Print the completions for a shell.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages into a directory.
    Man {
        /// Where to; made if it is not there.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// What to do with bridges.
#[derive(Debug, Subcommand)]
pub(crate) enum BridgeAction {
    /// Add a bridge, by the line that you were given.
    Add {
        /// ADDRESS:PORT, and perhaps a fingerprint; or obfs4 ADDRESS:PORT FINGERPRINT cert=... iat-mode=...; or - for lines on standard input.
        #[arg(value_name = "LINE", required = true)]
        line: Vec<String>,
    },
    /// Show the built-in bridges of a transport, which the browser's release brings, or add them.
    ///
    /// Everybody has these, whoever blocks Tor among them: they are the first to be blocked, and the quickest to try. Without TRANSPORT,
    /// which transports there are.
    Builtin(Builtin),
    /// Ask the Tor Project for bridges, through tor, and show them, or add them.
    ///
    /// A box without a browser connects to the Tor network, and its tor alone reaches the Tor Project's service for bridges, which sees neither you
    /// nor a browser. Where Tor is blocked, add a built-in bridge first. It takes a minute at most.
    #[command(mut_arg("name", |name| name.default_value("bridge-request")))]
    Request(std::boxed::Box<Ask>),
    /// Connect through the bridges, in a box without a browser, and say whether that works, or why not.
    ///
    /// It takes a minute at most. One of several bridges is enough; a single one is given up at the first failure.
    #[command(mut_arg("name", |name| name.default_value("bridge-test")))]
    Test(std::boxed::Box<Box>),
    /// List the bridges.
    List,
    /// Remove a bridge.
    Remove {
        /// Its number in the list.
        #[arg(value_name = "NUMBER")]
        number: usize,
    },
}

/// Which built-in bridges.
#[derive(Debug, ClapArgs)]
pub(crate) struct Builtin {
    /// Pluggable transport, such as obfs4, snowflake or meek.
    #[arg(value_name = "TRANSPORT")]
    pub(crate) transport: Option<String>,
    /// Add all that are shown to your bridges.
    #[arg(long, requires = "transport")]
    pub(crate) add: bool,
    /// Whose.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) browser: Browser,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Ask for bridges.
#[derive(Debug, ClapArgs)]
pub(crate) struct Ask {
    /// For somebody in this country, by its two letters; without it, for anywhere.
    #[arg(long, value_name = "CC", value_parser = parse_country)]
    pub(crate) country: Option<String>,
    /// With this pluggable transport; may be given more than once. Without it, with any that torbox has.
    #[arg(long, value_name = "TRANSPORT")]
    pub(crate) transport: Vec<String>,
    /// Add what comes to your bridges.
    #[arg(long)]
    pub(crate) add: bool,
    /// Ask another service: that of a private network.
    #[arg(long, value_name = "URL", value_parser = parse_service, hide = true)]
    pub(crate) service: Option<String>,
    /// The certificate that it is known by.
    #[arg(long, value_name = "FILE", requires = "service", hide = true)]
    pub(crate) service_root: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) of: Box,
}

/// What to do with profiles.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileAction {
    /// Make an empty profile, for `torbox run --profile`.
    Create(Profile),
    /// List the profiles.
    List(Format),
    /// Remove a profile, its settings and tor's guards of its box.
    Remove(Profile),
    /// Write what a profile keeps, and its settings, into a file, a plain tar archive.
    ///
    /// If a proxy with a password is among the settings, it is in the file, which only you can read.
    Export(Archive),
    /// Make a profile of such a file, which is not trusted: it holds the known files and nothing else, or it is refused.
    Import(Import),
}

/// Which profile.
#[derive(Debug, ClapArgs)]
pub(crate) struct Profile {
    /// Name of the profile.
    #[arg(value_parser = BoxName::new)]
    pub(crate) name: BoxName,
}

/// Which profile, and which file.
#[derive(Debug, ClapArgs)]
pub(crate) struct Archive {
    /// Name of the profile.
    #[arg(value_parser = BoxName::new)]
    pub(crate) name: BoxName,
    /// The file. None is ever overwritten.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Make a profile of an archive.
#[derive(Debug, ClapArgs)]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) archive: Archive,
    /// What to do with settings in it that say how the browser is shown, what makes its box, or what tor goes through. Without this such an archive is refused.
    #[arg(long, value_enum)]
    pub(crate) settings: Option<Foreign>,
}

/// What to do with settings that came with an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Foreign {
    /// Take them: for archives that you made.
    Take,
    /// Leave all of them out.
    Leave,
}

impl Command {
    /// A profile names the box that it is used in.
    pub(crate) fn name_by_profile(&mut self) {
        if let Some(of) = self.of()
            && let Some(profile) = &of.profile
        {
            of.name = profile.clone();
        }
    }

    /// Which profile the box is to have.
    pub(crate) fn profile(&mut self) -> Option<BoxName> {
        self.of().and_then(|of| of.profile.clone())
    }

    /// The box that it is about to make.
    fn of(&mut self) -> Option<&mut Box> {
        match self {
            Self::Run(run) => Some(&mut run.of),
            Self::Audit(audit) => Some(&mut audit.of),
            Self::Plan(plan) => Some(&mut plan.of),
            Self::Compose(compose) => Some(&mut compose.of),
            Self::Probe(of) => Some(of),
            Self::Bridge { action: BridgeAction::Test(of) } => Some(of),
            Self::Bridge { action: BridgeAction::Request(ask) } => Some(&mut ask.of),
            _ => None,
        }
    }
}

/// What to do with the settings.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Print all settings as a file of them, and where each that is set comes from.
    Show,
    /// Say what is wrong with the settings; nothing if they are right.
    Check,
    /// Open the file in the editor that VISUAL or EDITOR names, and check what was written.
    ///
    /// Where there is no file, one is made that has every setting in it, commented out and explained.
    Edit,
}

/// What to do with the downloads of a box.
#[derive(Debug, Subcommand)]
pub(crate) enum DownloadsAction {
    /// List them.
    List {
        #[command(flatten)]
        of: Name,
        #[command(flatten)]
        format: Format,
    },
    /// Copy them to a directory of yours: to be read by you alone, never executable, over no other file.
    ///
    /// Names become harmless: characters that do not print or mislead are replaced, and a dot or dash at the front goes. A file can
    /// still be made to attack the program that opens it, and that program is in no box.
    Save(Save),
}

/// Copy downloads out.
#[derive(Debug, ClapArgs)]
pub(crate) struct Save {
    /// Name of the box.
    #[arg(long, default_value = "default", value_parser = BoxName::new)]
    pub(crate) name: BoxName,
    /// Where to.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) to: PathBuf,
    /// Which, by the names that `list` shows; all if none is named.
    #[arg(value_name = "DOWNLOAD")]
    pub(crate) downloads: Vec<String>,
}

/// Copy files in.
#[derive(Debug, ClapArgs)]
pub(crate) struct Upload {
    /// Name of the box.
    #[arg(long, default_value = "default", value_parser = BoxName::new)]
    pub(crate) name: BoxName,
    /// Which files.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// What to do with the entry of a box.
#[derive(Debug, Subcommand)]
pub(crate) enum DesktopAction {
    /// Add an entry that opens the browser, with actions for a new window, a new identity, an audit and for stopping it.
    ///
    /// It is offered as a browser for web addresses; the default browser stays what it is. Progress and errors are shown in a window.
    Install(Install),
    /// Remove an entry.
    Remove(Remove),
}

/// Add an entry.
#[derive(Debug, ClapArgs)]
pub(crate) struct Install {
    /// Which directory of shared data to put it into: yours, or for root /usr/local/share, unless said otherwise.
    #[arg(long, value_name = "DIR")]
    pub(crate) share: Option<PathBuf>,
    /// Where torbox will lie, for packages; without it, where it lies now.
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
    /// Options of `torbox run` for this entry, such as --name work. A box of another name has an entry of its own.
    #[arg(last = true, value_name = "RUN-OPTIONS")]
    pub(crate) options: Vec<String>,
}

/// Remove an entry.
#[derive(Debug, ClapArgs)]
pub(crate) struct Remove {
    /// Which directory of shared data to remove it from, as for `install`.
    #[arg(long, value_name = "DIR")]
    pub(crate) share: Option<PathBuf>,
    /// Name of the box.
    #[arg(default_value = "default", value_parser = BoxName::new)]
    pub(crate) name: BoxName,
}

/// Take out what the browser copied.
#[derive(Debug, ClapArgs)]
pub(crate) struct Copy {
    /// Name of the box.
    #[arg(default_value = "default", value_parser = BoxName::new)]
    pub(crate) name: BoxName,
    /// Write it to standard output instead.
    #[arg(long)]
    pub(crate) print: bool,
}

/// Which box.
#[derive(Debug, ClapArgs)]
pub(crate) struct Name {
    /// Name of the box.
    #[arg(default_value = "default", value_parser = BoxName::new)]
    pub(crate) name: BoxName,
}

/// Open an address in a running box.
#[derive(Debug, ClapArgs)]
pub(crate) struct Open {
    /// Address to open; a new window without one.
    #[arg(value_name = "URL", value_parser = parse_page)]
    pub(crate) url: Option<Address>,
    /// Name of the box.
    #[arg(long, default_value = "default", value_parser = BoxName::new)]
    pub(crate) name: BoxName,
}

/// How to print.
#[derive(Debug, ClapArgs)]
pub(crate) struct Format {
    /// Print JSON, for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a box is made of.
#[derive(Debug, ClapArgs)]
pub(crate) struct Box {
    /// Name of the box; one of a name runs at a time.
    #[arg(long, default_value = "default", value_parser = BoxName::new)]
    pub(crate) name: BoxName,
    /// Keep the bookmarks, the history and the settings of the browser in this profile, which also names the box.
    ///
    /// Without it nothing of the browser is kept. `torbox profile create` makes one.
    #[arg(long, value_name = "NAME", conflicts_with = "name", value_parser = BoxName::new)]
    pub(crate) profile: Option<BoxName>,
    /// Which browser to run.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) browser: Browser,
    /// Lines for tor's configuration, as in torrc(5): for a private network, say.
    #[arg(long, value_name = "FILE")]
    pub(crate) torrc: Option<PathBuf>,
    /// Let tor out through this proxy alone: socks5://[USER:PASSWORD@]ADDRESS:PORT; http:// and socks4:// likewise.
    ///
    /// ADDRESS is an IP address: a name would be looked up outside of Tor. Others on this machine can read a password on the
    /// command line, and not in a file of settings that `torbox config edit` made.
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<Proxy>,
    /// Let tor connect to these ports alone, where a firewall lets nothing else out: 80,443.
    #[arg(long, value_name = "PORTS")]
    pub(crate) reachable_ports: Option<Ports>,
    /// Which display to show the browser on.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) display: DisplayChoice,
    /// Which way a copied text may go over the edge of the browser's window.
    ///
    /// Where torbox shows the browser on a display of the box's own, a text goes either way by an act of yours alone, whatever this says.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) clipboard: ClipboardChoice,
    /// Delay keys and the pointer by random times of up to so many milliseconds, so that a page does not know you by how you type.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1000))]
    pub(crate) input_jitter: u16,
    /// Let the browser be heard. It never hears.
    ///
    /// Its sound goes to PulseAudio or PipeWire as samples alone; how fast they are played tells one sound card from another.
    #[arg(long)]
    pub(crate) sound: bool,
    /// Start the browser once tor is connected, and not before.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Print what tor, the gate and the browser say.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) engine: EngineChoice,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

/// Who makes the containers.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct EngineChoice {
    /// Who makes the containers.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: Backend,
    /// The engine's API socket, e.g. unix:///run/podman/podman.sock; without it, the first that is found.
    #[arg(long, value_name = "URL")]
    pub(crate) engine: Option<String>,
    /// OCI runtime to ask the engine for, e.g. runsc, kata or krun: a second kernel between the browser and the host.
    #[arg(long, value_name = "NAME")]
    pub(crate) oci_runtime: Option<String>,
}

impl EngineChoice {
    /// Whether anything but the default was asked for.
    pub(crate) fn is_given(&self) -> bool {
        self.backend != Backend::Auto || self.engine.is_some() || self.oci_runtime.is_some()
    }
}

/// Who makes the containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// torbox itself on Linux, elsewhere the first engine that is found.
    #[default]
    Auto,
    /// torbox itself: no daemon and no root.
    Native,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}

/// Open the browser in a box.
#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    /// Address to open.
    #[arg(value_name = "URL", value_parser = parse_url)]
    pub(crate) url: Option<Address>,
    /// Show progress and errors in a window, for starts without a terminal.
    #[arg(long)]
    pub(crate) window: bool,
    #[command(flatten)]
    pub(crate) of: Box,
}

/// Write the box as a compose file.
#[derive(Debug, ClapArgs)]
pub(crate) struct Compose {
    /// Directory to write to.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Address to open.
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub(crate) url: Option<Address>,
    /// Who is to read it.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ComposeFormat,
    #[command(flatten)]
    pub(crate) of: Box,
}

/// Who reads a compose file: what Docker and Podman take for a mount or a mask differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ComposeFormat {
    /// docker compose, and docker-compose from 1.29 on.
    #[default]
    Docker,
    /// podman-compose, from 1.3 on.
    Podman,
    /// podman kube play: refused, because it cannot keep a box.
    Kube,
}

/// Try every way out of a box.
#[derive(Debug, ClapArgs)]
pub(crate) struct Audit {
    /// Print JSON, for programs: every attempt, what it tried and what came of it.
    #[arg(long)]
    pub(crate) json: bool,
    /// Make the same attempts in another container of the same root, and print both side by side.
    #[arg(long, value_enum, value_name = "OTHER", conflicts_with = "json")]
    pub(crate) compare: Option<Compare>,
    /// Show progress and the result in a window, for starts without a terminal.
    #[arg(long)]
    pub(crate) window: bool,
    #[command(flatten)]
    pub(crate) of: Box,
}

/// What a box is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compare {
    /// `podman run` without options.
    PodmanRun,
}

/// Which browser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Browser {
    /// Tor Browser, from the Tor Project's signed release.
    #[default]
    TorBrowser,
    /// Debian's Firefox ESR in Tor Browser's place. NOT ANONYMOUS: for demonstrations and tests only.
    FirefoxEsr,
}

impl Browser {
    /// What an entry is called. A stand-in says that it is one.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::TorBrowser => "Tor Browser in a box",
            Self::FirefoxEsr => "Firefox ESR in a box, NOT ANONYMOUS",
        }
    }
}

/// Which way a copied text may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClipboardChoice {
    /// Into the browser and out of it.
    #[default]
    Both,
    /// Into the browser alone.
    In,
    /// Out of it alone.
    Out,
    /// Neither.
    None,
}

impl From<ClipboardChoice> for Clipboard {
    fn from(choice: ClipboardChoice) -> Self {
        match choice {
            ClipboardChoice::Both => Self::Both,
            ClipboardChoice::In => Self::In,
            ClipboardChoice::Out => Self::Out,
            ClipboardChoice::None => Self::None,
        }
    }
}

/// Which display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DisplayChoice {
    /// The strongest of these that works, x11-untrusted, x11-trusted and served excepted.
    #[default]
    Auto,
    /// The compositor that WAYLAND_DISPLAY names, in a security context of the box's own, and filtered.
    Wayland,
    /// The same, filtered alone: for compositors that have no security contexts.
    WaylandFilter,
    /// The X server that DISPLAY names, through a display of the box's own: the browser's windows are pictures to it.
    #[value(name = "x11-nested")]
    X11Nested,
    /// The X server that DISPLAY names, as a client that it does not trust.
    #[value(name = "x11-untrusted")]
    X11Untrusted,
    /// The X server that DISPLAY names. NOT SAFE: a browser that was taken over reads every key and the whole screen.
    #[value(name = "x11-trusted")]
    X11Trusted,
    /// A page that torbox serves on this machine's loopback, for any browser of yours that knows its address: where there is no
    /// display, as on a server.
    Served,
    /// None: for the probe.
    None,
}

/// Where images come from.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct Sources {
    /// Debian mirror for the base packages, e.g. http://mirror.example/debian; the security archive's follows with a
    /// second use. Without it, those of this machine's apt are used.
    #[arg(long, value_name = "URL", value_parser = parse_mirror)]
    pub(crate) mirror: Vec<String>,
    /// Tor Browser's release tarball, fetched by other means.
    #[arg(long, value_name = "FILE", requires = "signature")]
    pub(crate) tarball: Option<PathBuf>,
    /// The tarball's detached OpenPGP signature.
    #[arg(long, value_name = "FILE", requires = "tarball")]
    pub(crate) signature: Option<PathBuf>,
    /// A newer certificate of the Tor Browser developers, for releases signed with a key that this torbox does not know.
    ///
    /// What is new in it is kept, and counts only where the developers' primary key, which torbox knows, certified it. Without
    /// it a newer copy is fetched from the Tor Project where a signature needs one.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Fetch everything through this proxy: socks5h://HOST:PORT, or socks5h:///path/of/socket.
    ///
    /// For networks that block the Tor Project: a running tor or any other SOCKS5 proxy. Names are resolved by the proxy.
    #[arg(long, value_name = "PROXY")]
    pub(crate) via: Option<Via>,
    /// Which releases of the Tor Project to follow: those of the installed image, unless said otherwise.
    #[arg(long, value_enum)]
    pub(crate) channel: Option<ChannelChoice>,
    /// Where tor itself comes from.
    #[arg(long = "tor", value_enum, value_name = "SOURCE", default_value_t)]
    pub(crate) tor: TorChoice,
    /// Accept a release signed on this day or later, though that is more than 60 days ago.
    ///
    /// Releases come every few weeks. One that is older is refused: somebody on the way may keep the newer ones from you.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) accept_old: Option<Day>,
}

/// Which releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChannelChoice {
    /// Releases.
    Release,
    /// Test versions, ahead of the releases.
    Alpha,
}

/// Which tor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TorChoice {
    /// Debian's package.
    #[default]
    Debian,
    /// The Tor Project's expert bundle. torbox does not start its pluggable transports.
    TorProject,
}

/// Build the images.
#[derive(Debug, ClapArgs)]
pub(crate) struct Build {
    /// Which browser to build an image of.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) browser: Browser,
    /// Take the packages of a lock, of this file or of torbox itself, instead of the newest.
    ///
    /// The same packages give the same bytes. Mirrors keep only the newest version of a package, so a lock of long ago needs an
    /// archive of old packages as its --mirror, or a download cache from then.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub(crate) locked: Option<Option<PathBuf>>,
    /// Write the locks of the newest packages into this directory, and build nothing.
    #[arg(long, value_name = "DIR", conflicts_with = "locked")]
    pub(crate) resolve: Option<PathBuf>,
    /// For which architecture: this machine's, unless said otherwise. What is built for another is not run here.
    #[arg(long)]
    pub(crate) arch: Option<Arch>,
    /// Also the tor image with programs for pluggable transports, which is else built when a bridge first needs it.
    #[arg(long)]
    pub(crate) transports: bool,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

/// Look for newer things.
#[derive(Debug, ClapArgs)]
pub(crate) struct Update {
    /// Go back to the images from before the last update, if they have no older browser.
    #[arg(long)]
    pub(crate) rollback: bool,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

/// List the images.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Images {
    #[command(flatten)]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) action: Option<ImagesAction>,
}

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImagesAction {
    /// Remove what no image uses, and what was downloaded and no image was made of.
    Prune,
    /// Print an image's bill of materials: every package, release and file with its digest (CycloneDX 1.5, JSON).
    Sbom {
        /// Name of the image, such as torbox/tor.
        #[arg(value_name = "IMAGE", value_parser = ImageName::new)]
        image: ImageName,
    },
    /// Write an image to a file, or to a directory.
    Export {
        /// Name of the image, such as torbox/tor.
        #[arg(value_name = "IMAGE", value_parser = ImageName::new)]
        image: ImageName,
        /// Where to write it to.
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// In which form.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

/// The form of an exported image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// One file that docker load, podman load and skopeo (as oci-archive and as docker-archive) all read.
    #[default]
    #[value(alias = "oci-archive", alias = "docker-archive")]
    Archive,
    /// A directory: an OCI layout.
    Dir,
}

/// Print what `run` would do.
#[derive(Debug, ClapArgs)]
pub(crate) struct PlanArgs {
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) render: Render,
    #[command(flatten)]
    pub(crate) of: Box,
}

/// A rendering of the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Render {
    /// The plan itself, as JSON.
    #[default]
    Plan,
    /// One OCI runtime configuration a container, as JSON.
    Oci,
    /// The steps of the launch.
    Steps,
}

fn parse_mirror(text: &str) -> Result<String, torbox_images::Error> {
    Mirror::new(text).map(|mirror| mirror.url().to_owned())
}

fn parse_url(text: &str) -> Result<Address, AddressError> {
    Address::new(text)
}

fn parse_country(text: &str) -> Result<String, String> {
    let two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if two { Ok(text.to_ascii_lowercase()) } else { Err("a country has two letters".to_owned()) }
}

fn parse_service(text: &str) -> Result<String, String> {
    let plain = text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:/[]".contains(&byte)));
    if plain { Ok(text.trim_end_matches('/').to_owned()) } else { Err("a service has an address with https".to_owned()) }
}

/// Other programs hand over what they found somewhere: pages of the browser's own are none of it.
fn parse_page(text: &str) -> Result<Address, String> {
    let address = Address::new(text).map_err(|error| error.to_string())?;
    if address.is_web() { Ok(address) } else { Err("a running browser is sent to http: and https: addresses alone".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn other_programs_open_no_page_of_the_browsers_own() {
        assert!(parse_page("http://abc.onion/").is_ok() && parse_url("about:blank").is_ok());
        assert!(parse_page("about:config").is_err() && parse_page("--new-window").is_err());
    }
}
