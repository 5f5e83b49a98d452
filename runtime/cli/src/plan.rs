//! `torbox plan`: what `run` would do.

use crate::args::{PlanArgs, Render};
use crate::dirs::Dirs;
use crate::display;
use crate::error::CliError;
use crate::run::request;
use serde::Serialize;
use torbox_plan::oci::{self, Named};
use torbox_plan::steps::LAUNCH;
use torbox_plan::{Plan, Program};

/// Prints one rendering of the plan.
pub(crate) fn print(dirs: &Dirs, args: &PlanArgs) -> Result<(), CliError> {
    if args.render == Render::Steps {
        return json(&LAUNCH);
    }
    let opened = display::open(args.of.display)?;
    let launch = request(dirs, &args.of, Program::Browser { url: None }, opened)?;
    let plan = Plan::new(&launch.launch.intent, &launch.launch.host)?;
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
