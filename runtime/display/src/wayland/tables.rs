//! The interfaces that the filter can read: what their messages look like, taken from the published protocols. Which of them a
//! client gets is not decided here but in `policy/display/wayland.toml`.

use wayland_client::Proxy;
use wayland_client::backend::protocol::Interface;
use wayland_client::protocol::{
    wl_compositor::WlCompositor, wl_data_device_manager::WlDataDeviceManager, wl_display::WlDisplay, wl_output::WlOutput, wl_seat::WlSeat, wl_shm::WlShm,
    wl_subcompositor::WlSubcompositor,
};
use wayland_protocols::wp::cursor_shape::v1::client::wp_cursor_shape_manager_v1::WpCursorShapeManagerV1;
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_manager_v1::WpFractionalScaleManagerV1;
use wayland_protocols::wp::idle_inhibit::zv1::client::zwp_idle_inhibit_manager_v1::ZwpIdleInhibitManagerV1;
use wayland_protocols::wp::text_input::zv3::client::zwp_text_input_manager_v3::ZwpTextInputManagerV3;
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;
use wayland_protocols::xdg::shell::client::xdg_wm_base::XdgWmBase;
use wayland_protocols::xdg::xdg_output::zv1::client::zxdg_output_manager_v1::ZxdgOutputManagerV1;

/// Object 1 of every connection.
pub(crate) fn display() -> &'static Interface {
    WlDisplay::interface()
}

/// The interface that can be bound as `name`, if the filter can read it.
pub(crate) fn interface(name: &str) -> Option<&'static Interface> {
    let all = [
        WlCompositor::interface(),
        WlDataDeviceManager::interface(),
        WlOutput::interface(),
        WlSeat::interface(),
        WlShm::interface(),
        WlSubcompositor::interface(),
        WpCursorShapeManagerV1::interface(),
        WpFractionalScaleManagerV1::interface(),
        WpViewporter::interface(),
        XdgWmBase::interface(),
        ZwpIdleInhibitManagerV1::interface(),
        ZwpTextInputManagerV3::interface(),
        ZxdgOutputManagerV1::interface(),
    ];
    all.into_iter().find(|interface| interface.name == name)
}
