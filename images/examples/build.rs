//! Builds images into a store and unpacks them: `build STORE CACHE INIT GATE RECIPE...`, with the mirrors of `/etc/apt`.
//!
//! The environment gives what is optional: `TARBALL`, `SIGNATURE`, `KEY`, `LOCK`, and `EXPORT`, a directory for archives.
//! A tool for working on this crate; users have `torbox build`.

use std::{path::PathBuf, process::ExitCode, time::Instant};
use torbox_images::{Arch, BuildRequest, Mirrors, Programs, Progress, RecipeName, ReleaseFiles, Store, build, export_archive};

struct Print(Instant);

impl Progress for Print {
    fn phase(&mut self, what: &str) {
        eprintln!("{:7.2} s  {what}", self.0.elapsed().as_secs_f64());
    }

    fn advance(&mut self, _done: u64, _total: Option<u64>) {}
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut cause = error.source();
            eprint!("error: {error}");
            while let Some(inner) = cause {
                eprint!(": {inner}");
                cause = inner.source();
            }
            let hint = error.downcast_ref::<torbox_images::Error>().and_then(torbox_images::Error::hint);
            eprintln!("{}", hint.map(|hint| format!("\n\nhint: {hint}")).unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, cache, init, gate, recipes @ ..] = arguments.as_slice() else {
        return Err("usage: build STORE CACHE INIT GATE RECIPE...".into());
    };
    let store = Store::open(&PathBuf::from(store))?;
    let mut progress = Print(Instant::now());
    for recipe in recipes {
        let release = std::env::var_os("TARBALL").zip(std::env::var_os("SIGNATURE"));
        let request = BuildRequest {
            recipe: recipe.parse::<RecipeName>()?,
            mirrors: Mirrors::Apt("/etc/apt".into()),
            cache: cache.into(),
            release: release.map(|(tarball, signature)| ReleaseFiles { tarball: tarball.into(), signature: signature.into(), key: std::env::var_os("KEY").map(Into::into) }),
            programs: Programs { init: init.into(), gate: gate.into() },
            arch: Arch::host().ok_or("no images for this architecture")?,
            locked: std::env::var_os("LOCK").map(Into::into),
        };
        let image = build(&store, &request, &mut progress)?;
        progress.phase("built");
        println!("{} {} {} {} bytes, created {}", image.name, image.version, image.digest, image.compressed_size, image.created);
        println!("{}", store.rootfs(&image, &mut progress)?.path().display());
        progress.phase("unpacked");
        if let Some(directory) = std::env::var_os("EXPORT") {
            export_archive(&store, &image, &PathBuf::from(directory).join(format!("{recipe}.tar")))?;
            progress.phase("exported");
        }
    }
    Ok(())
}
