//! The command line. All of its text lives here; help, manual pages and completions are made from it.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use torbox_plan::BoxName;

/// Runs Tor Browser in a box that does not know who you are.
#[derive(Debug, Parser)]
#[command(name = "torbox", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Args {
    /// Keep images, downloads and state below this directory.
    ///
    /// Without it a user's data lies in the XDG base directories, root's in /var/lib/torbox, /var/cache/torbox and
    /// /run/torbox.
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
    /// until the browser is closed, Ctrl-C is pressed or `torbox stop` is called; then nothing of the box is left.
    Run(Run),
    /// End a running box.
    Stop(Name),
    /// Show which boxes run.
    Status(Format),
    /// Build the images.
    Build(Build),
    /// List the images.
    Images(Format),
    /// Print what `run` would do, without doing it.
    Plan(PlanArgs),
    /// Run the probe in a box, in the browser's place, and print what it can see and reach.
    ///
    /// The box is made exactly as for the browser. The report is one JSON object on standard output.
    Probe(Box),
}

/// Which box.
#[derive(Debug, ClapArgs)]
pub(crate) struct Name {
    /// Name of the box.
    #[arg(default_value = "default", value_parser = BoxName::new)]
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
    /// Which browser to run.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) browser: Browser,
    /// Lines for tor's configuration, as in torrc(5): for a private network, or bridges.
    #[arg(long, value_name = "FILE")]
    pub(crate) torrc: Option<PathBuf>,
    /// Which display to show the browser on.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) display: DisplayChoice,
    /// Print what tor, the gate and the browser say.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

/// Open the browser in a box.
#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    /// Address to open.
    #[arg(value_name = "URL", value_parser = parse_url)]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) of: Box,
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

/// Which display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DisplayChoice {
    /// Wayland where there is a compositor, otherwise X11.
    #[default]
    Auto,
    /// The compositor that WAYLAND_DISPLAY names.
    Wayland,
    /// The X server that DISPLAY names.
    X11,
}

/// Where images come from.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct Sources {
    /// Debian mirror for the base packages, e.g. http://mirror.example/debian; the security archive's follows with a
    /// second use. Without it, the mirrors of this machine's apt are used.
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Vec<String>,
    /// Tor Browser's release tarball, fetched by other means.
    #[arg(long, value_name = "FILE", requires = "signature")]
    pub(crate) tarball: Option<PathBuf>,
    /// The tarball's detached OpenPGP signature.
    #[arg(long, value_name = "FILE", requires = "tarball")]
    pub(crate) signature: Option<PathBuf>,
    /// A newer certificate of the Tor Browser developers, for releases signed with a key that this torbox does not know.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

/// Build the images.
#[derive(Debug, ClapArgs)]
pub(crate) struct Build {
    /// Which browser to build an image of.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) browser: Browser,
    #[command(flatten)]
    pub(crate) sources: Sources,
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

/// An address is handed to the browser as one argument: it must not be taken for an option, by anyone.
fn parse_url(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once(':').ok_or("an address begins with http:, https: or about:")?;
    if !["http", "https", "about"].contains(&scheme) {
        return Err(format!("the browser is not opened on {scheme}: addresses; use http:, https: or about:"));
    }
    if rest.chars().any(|c| c.is_control() || c == ' ') {
        return Err("the address has a space or control character in it".to_owned());
    }
    Ok(text.to_owned())
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
    fn addresses_are_never_options_or_files() {
        for good in ["https://example.org/", "http://abc.onion/x?y#z", "about:blank"] {
            assert_eq!(parse_url(good), Ok(good.to_owned()));
        }
        for bad in ["-P", "--profile", "file:///etc/passwd", "javascript:alert(1)", "example.org", "data:text/html,x", "http://a b/", "http://a\n/"] {
            assert!(parse_url(bad).is_err(), "{bad:?}");
        }
    }
}
