//! The ways in which a box can be shown, and what each of them leaves open. SECURITY.md says the same at more length.

use torbox_plan::Clipboard;

/// How a display is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Wayland, through torbox's filter, as a client that the compositor knows to be sandboxed (security-context-v1).
    Wayland,
    /// Wayland, through torbox's filter.
    WaylandFilter,
    /// X11, through a display of the box's own, as a client that the server does not trust.
    X11Nested,
    /// The same on a server that trusts every client.
    X11NestedTrusted,
    /// X11, as a client that the server does not trust.
    X11Untrusted,
    /// X11 as any program of the user.
    X11Trusted,
    /// As a page that torbox serves, for a browser of the user's.
    Served,
    /// None.
    None,
}

impl Mode {
    /// Its name, as `--display` takes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Wayland => "wayland",
            Self::WaylandFilter => "wayland-filter",
            Self::X11Nested => "x11-nested",
            Self::X11NestedTrusted => "x11-nested-trusted",
            Self::X11Untrusted => "x11-untrusted",
            Self::X11Trusted => "x11-trusted",
            Self::Served => "served",
            Self::None => "none",
        }
    }

    /// Whether the display keeps what the browser copied until its user takes it out.
    pub(crate) const fn keeps_what_is_copied(self) -> bool {
        matches!(self, Self::X11Nested | Self::X11NestedTrusted | Self::Served)
    }

    /// What a browser that was taken over can still do, if anything.
    pub(crate) fn leaves_open(self, clipboard: Clipboard) -> Option<String> {
        const LAYOUT: &str = "the browser sees the keyboard's layout";
        const NESTED: &str = " and, for a moment after you press a key or a button in its window, the clipboard";
        const TRUSTS: &str = "; the X server trusts every client alike: a display of torbox that was taken over as well could read every key";
        let nested = if clipboard.lets_in() { NESTED } else { "" };
        let open = match self {
            Self::Wayland | Self::WaylandFilter if clipboard.lets_in() => {
                format!("{LAYOUT}, the size and scale of the monitors and, while its window has the keyboard, the clipboard")
            }
            Self::Wayland | Self::WaylandFilter => format!("{LAYOUT} and the size and scale of the monitors"),
            Self::X11Nested => format!("{LAYOUT}{nested}"),
            Self::X11NestedTrusted => format!("{LAYOUT}{nested}{TRUSTS}"),
            Self::X11Untrusted => {
                "the browser can read the titles of all windows and the clipboard, sees the keyboard's layout and the size of the screen, and speaks to the X server itself".to_owned()
            }
            Self::X11Trusted => "the browser can read every key and the whole screen, and type into other windows".to_owned(),
            Self::Served => {
                let pasted = if clipboard.lets_in() { " and, once you paste into it, what you pasted" } else { "" };
                format!("the browser sees the size of the page that shows it{pasted}; your own browser, and who can read its memory, sees everything that is shown and typed")
            }
            Self::None => return None,
        };
        Some(open)
    }
}
