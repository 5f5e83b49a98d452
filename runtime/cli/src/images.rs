//! `torbox build`, `torbox images`, and the images that the other commands need.

use crate::args::{Browser, Build, Format, Sources};
use crate::dirs::Dirs;
use crate::error::CliError;
use crate::progress::Progress;
use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use torbox_images::{Arch, BuildRequest, Image, Mirror, Mirrors, Programs, RecipeName, ReleaseFiles, Store, build as build_image};

/// `torbox build`: both images, newest signed versions.
pub(crate) fn build(dirs: &Dirs, args: &Build) -> Result<(), CliError> {
    let store = Store::open(&dirs.store()?)?;
    let mut progress = Progress::new();
    for recipe in [RecipeName::Tor, recipe(args.browser)] {
        let image = make(&store, dirs, recipe, &args.sources, &mut progress)?;
        progress.end();
        println!("{}", describe(&image));
    }
    Ok(())
}

/// `torbox images`.
pub(crate) fn list(dirs: &Dirs, format: &Format) -> Result<(), CliError> {
    let images = Store::open(&dirs.store()?)?.images()?;
    if format.json {
        let list: Vec<_> = images.iter().map(|image| serde_json::json!({
            "name": image.name.as_str(), "digest": image.digest.to_string(), "version": image.version, "recipe": image.recipe,
            "anonymous": image.anonymous, "compressed_size": image.compressed_size, "created": image.created,
        })).collect();
        println!("{}", serde_json::Value::Array(list));
    } else {
        images.iter().for_each(|image| println!("{}", describe(image)));
    }
    Ok(())
}

fn describe(image: &Image) -> String {
    let warning = if image.anonymous { "" } else { "  NOT ANONYMOUS" };
    let size = image.compressed_size as f64 / 1e6;
    format!("{:24} {:20} {:7.1} MB  {}{warning}", image.name.as_str(), image.version, size, image.digest)
}

/// The images of a box, built if they are not there, and their unpacked roots.
pub(crate) struct Unpacked {
    pub(crate) tor: Image,
    pub(crate) tor_root: PathBuf,
    pub(crate) browser: Image,
    pub(crate) browser_root: PathBuf,
}

/// Finds or builds what a box needs.
pub(crate) fn provide(dirs: &Dirs, browser: Browser, sources: &Sources, progress: &mut Progress) -> Result<Unpacked, CliError> {
    let store = Store::open(&dirs.store()?)?;
    let mut provide = |recipe: RecipeName| -> Result<(Image, PathBuf), CliError> {
        let image = match store.image(&recipe.image())? {
            Some(image) => image,
            None => make(&store, dirs, recipe, sources, progress)?,
        };
        let root = store.rootfs(&image, progress)?.path().to_owned();
        Ok((image, root))
    };
    let (tor, tor_root) = provide(RecipeName::Tor)?;
    let (browser, browser_root) = provide(recipe(browser))?;
    Ok(Unpacked { tor, tor_root, browser, browser_root })
}

const fn recipe(browser: Browser) -> RecipeName {
    match browser {
        Browser::TorBrowser => RecipeName::TorBrowser,
        Browser::FirefoxEsr => RecipeName::FirefoxEsr,
    }
}

fn make(store: &Store, dirs: &Dirs, recipe: RecipeName, sources: &Sources, progress: &mut Progress) -> Result<Image, CliError> {
    // A wrong path is said before anything is fetched.
    for path in [&sources.tarball, &sources.signature, &sources.key].into_iter().flatten() {
        File::open(path).map_err(|source| CliError::Path { path: path.clone(), source })?;
    }
    let release = match (&sources.tarball, &sources.signature) {
        (Some(tarball), Some(signature)) if recipe == RecipeName::TorBrowser => {
            Some(ReleaseFiles { tarball: tarball.clone(), signature: signature.clone(), key: sources.key.clone() })
        }
        _ => None,
    };
    let request = BuildRequest { recipe, mirrors: mirrors(sources)?, cache: dirs.cache()?, release, programs: programs()?, arch: Arch::Amd64, locked: None };
    Ok(build_image(store, &request, progress)?)
}

fn mirrors(sources: &Sources) -> Result<Mirrors, CliError> {
    let named: Vec<Mirror> = sources.mirror.iter().map(|url| Mirror::new(url)).collect::<Result<_, _>>()?;
    Ok(if named.is_empty() { Mirrors::Apt(PathBuf::from("/etc/apt")) } else { Mirrors::Named(named) })
}

/// The static programs that go into the images: where an installation puts them, or where a build of the source does.
fn programs() -> Result<Programs, CliError> {
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.parent()?.join("libexec/torbox")));
    let directory = env::var_os("TORBOX_LIBEXEC").map(PathBuf::from).or(beside).unwrap_or_else(|| PathBuf::from("/usr/libexec/torbox"));
    let find = |name: &'static str| -> Result<PathBuf, CliError> {
        let path = directory.join(name);
        if Path::new(&path).is_file() { Ok(path) } else { Err(CliError::Program(name, directory.display().to_string())) }
    };
    Ok(Programs { init: find("init")?, gate: find("gate")? })
}
