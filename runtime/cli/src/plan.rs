//! `torbox plan`: what `run` would do.

use crate::args::{DisplayChoice, PlanArgs, Render};
use crate::dirs::Dirs;
use crate::display;
use crate::error::CliError;
use crate::run::{Needs, Place, request};
use serde::Serialize;
use torbox_plan::oci::{self, Named};
use torbox_plan::steps::LAUNCH;
use torbox_plan::{Display, Program};

/// Prints one rendering of the plan.
pub(crate) fn print(dirs: &Dirs, args: &PlanArgs) -> Result<(), CliError> {
    if args.render == Render::Steps {
        return json(&LAUNCH);
    }
    // A box of that name may run: what is made for the display lies elsewhere, and goes again; a killed call may have left it.
    let place = dirs.display(&args.of.name)?.with_extension("planned");
    display::remove(&place)?;
    let needs = if args.of.display == DisplayChoice::None { Needs::Nothing } else { Needs::Display };
    let rendered = Place::of(&args.of, needs, &place).and_then(|place| render(dirs, args, place));
    display::remove(&place)?;
    rendered
}

fn render(dirs: &Dirs, args: &PlanArgs, place: Place) -> Result<(), CliError> {
    let program = if place.opened.display == Display::None { Program::Probe } else { Program::Browser { url: None } };
    let launch = request(dirs, &args.of, program, place)?;
    let plan = launch.launch.plan()?;
    match args.render {
        Render::Plan => json(&plan),
        Render::Oci => {
            let specs: Vec<_> = plan.containers.iter().map(|container| oci::render(container, &Named)).collect::<Result<_, _>>()?;
            json(&specs)
        }
        Render::Steps => Ok(()),
    }
}

fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::System("print the plan", error.into()))?;
    println!("{text}");
    Ok(())
}
