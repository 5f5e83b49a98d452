//! `torbox build`, `torbox update`, `torbox verify`, `torbox images`, and the images that the other commands need.

use crate::args::{Browser, Build, ChannelChoice, Format, Images, ImagesAction, Output, Sources, TorChoice, Update};
use crate::bridge;
use crate::dirs::Dirs;
use crate::error::CliError;
use crate::progress::Progress;
use crate::stall::Bridges;
use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use torbox_images::{
    Arch, BuildRequest, Channel, Image, ImageName, Indexes, Locked, Mirror, Mirrors, Programs, RecipeName, ReleaseFiles, Rootfs, Store, build as build_image, current, export_archive, export_dir, renew, resolve_lock,
};

/// `torbox build`: both images, newest signed versions.
pub(crate) fn build(dirs: &Dirs, args: &Build) -> Result<(), CliError> {
    let (store, indexes) = (Store::open(&dirs.store()?)?, Indexes::default());
    let mut progress = Progress::new();
    let also = (args.transports && tor_recipe(dirs, args.sources.tor)? != RecipeName::TorTransports).then_some(RecipeName::TorTransports);
    for recipe in [tor_recipe(dirs, args.sources.tor)?, recipe(args.browser)].into_iter().chain(also) {
        let request = request(&store, dirs, recipe, &args.sources, &indexes)?;
        let locked = args.locked.clone().map(|file| file.map_or(Locked::Carried, Locked::File));
        let request = BuildRequest { arch: args.arch.unwrap_or(request.arch), locked, ..request };
        if let Some(dir) = &args.resolve {
            let path = dir.join(format!("{recipe}-{}.toml", request.arch));
            std::fs::write(&path, resolve_lock(&store, &request, &mut progress)?).map_err(|source| CliError::Path { path, source })?;
            continue;
        }
        let image = build_image(&store, &request, &mut progress)?;
        progress.end();
        println!("{}", describe(&image));
    }
    Ok(())
}

/// `torbox update`: what is installed, made anew of the newest.
pub(crate) fn update(dirs: &Dirs, args: &Update) -> Result<(), CliError> {
    let (store, indexes) = (Store::open(&dirs.store()?)?, Indexes::default());
    let mut progress = Progress::new();
    let (replaced, installed): (Vec<Image>, Vec<Image>) = store.images()?.into_iter().filter(|image| image.arch == host()).partition(|image| image.name.is_previous());
    if installed.is_empty() {
        return Err(CliError::NothingInstalled);
    }
    // What the last update left as it was stays when that is gone back from. Where it left all there is nothing to go back to, which the first says.
    let stays = |image: &Image| args.rollback && !replaced.is_empty() && !replaced.iter().any(|old| old.recipe == image.recipe);
    let mut left = Vec::new();
    for old in &installed {
        let recipe: RecipeName = old.recipe.parse()?;
        let new = match args.rollback {
            true if stays(old) => old.clone(),
            true => store.roll_back(recipe, host())?,
            false => build_image(&store, &request(&store, dirs, recipe, &args.sources, &indexes)?, &mut progress)?,
        };
        progress.end();
        let same = new.digest == old.digest;
        let was = if same { "as it was".to_owned() } else { format!("was {} {}", old.version, old.digest) };
        println!("{}  {was}", describe(&new));
        left.extend(same.then_some(recipe));
    }
    if !args.rollback {
        // What an update before this one replaced is not what was there before this one. One that changes nothing leaves the way back as it is.
        for recipe in left.iter().filter(|_| left.len() < installed.len()) {
            store.forget_previous(*recipe, host())?;
        }
        store.prune(&dirs.cache()?)?;
    }
    Ok(())
}

/// `torbox verify`.
pub(crate) fn verify(dirs: &Dirs) -> Result<(), CliError> {
    let store = Store::open(&dirs.store()?)?;
    let mut progress = Progress::new();
    for image in store.images()? {
        store.verify(&image, &mut progress)?;
        progress.end();
        println!("{}  verified", describe(&image));
    }
    Ok(())
}

/// `torbox images`.
pub(crate) fn images(dirs: &Dirs, args: &Images) -> Result<(), CliError> {
    let store = Store::open(&dirs.store()?)?;
    let find = |name: &ImageName| store.image(name, host())?.ok_or_else(|| CliError::NoImage(name.clone()));
    match &args.action {
        None => list(&store, &args.format)?,
        Some(ImagesAction::Prune) => println!("{:.1} MB freed", store.prune(&dirs.cache()?)? as f64 / 1e6),
        Some(ImagesAction::Sbom { image }) => println!("{}", String::from_utf8_lossy(&store.sbom(&find(image)?)?)),
        Some(ImagesAction::Export { image, path, output: Output::Archive }) => export_archive(&store, &find(image)?, path)?,
        Some(ImagesAction::Export { image, path, output: Output::Dir }) => export_dir(&store, &find(image)?, path)?,
    }
    Ok(())
}

fn list(store: &Store, format: &Format) -> Result<(), CliError> {
    let images = store.images()?;
    if format.json {
        let list: Vec<_> = images.iter().map(|image| serde_json::json!({
            "name": image.name.as_str(), "digest": image.digest.to_string(), "version": image.version, "recipe": image.recipe, "arch": image.arch.as_str(),
            "anonymous": image.anonymous, "compressed_size": image.compressed_size, "created": image.created, "signed": image.signed,
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
    let foreign = if image.arch == host() { String::new() } else { format!("  {}", image.arch) };
    format!("{:28} {:20} {:7.1} MB  {}{foreign}{warning}", image.name.as_str(), image.version, size, image.digest)
}

/// The images of a box.
pub(crate) struct Provided {
    pub(crate) store: Store,
    pub(crate) tor: Image,
    pub(crate) browser: Image,
}

/// The unpacked roots of the images of a box, which stay as long as this does.
pub(crate) struct Roots {
    pub(crate) tor: Rootfs,
    pub(crate) browser: Rootfs,
}

impl Provided {
    /// Unpacks them where they are not.
    pub(crate) fn roots(&self, progress: &mut Progress) -> Result<Roots, CliError> {
        Ok(Roots { tor: self.store.rootfs(&self.tor, progress)?, browser: self.store.rootfs(&self.browser, progress)? })
    }
}

/// Finds or builds what a box needs. An image that this torbox would make otherwise (other programs, another recipe) is made
/// again from the same packages, which needs no network where they are in the cache.
pub(crate) fn provide(dirs: &Dirs, browser: Browser, sources: &Sources, progress: &mut Progress) -> Result<Provided, CliError> {
    let (store, indexes) = (Store::open(&dirs.store()?)?, Indexes::default());
    let mut provide = |recipe: RecipeName| -> Result<Image, CliError> {
        let request = request(&store, dirs, recipe, sources, &indexes)?;
        match current(&store, &request)? {
            Some(image) => Ok(image),
            None => Ok(renew(&store, &request, progress)?),
        }
    };
    let (tor, browser) = (provide(tor_recipe(dirs, sources.tor)?)?, provide(recipe(browser))?);
    remind(&browser, progress);
    Ok(Provided { store, tor, browser })
}

/// Releases come every few weeks: says so when the browser is old.
fn remind(browser: &Image, progress: &mut Progress) {
    const OLD: i64 = 30;
    if let Some(days) = browser.days_since_signed(SystemTime::now()).filter(|days| *days > OLD) {
        progress.note(&format!("torbox: note: this browser was released {days} days ago; torbox update looks for a newer one."));
    }
}

/// The architecture of this machine; of one that torbox has no images for, nothing is ever found or built.
pub(crate) fn host() -> Arch {
    Arch::host().unwrap_or(Arch::Amd64)
}

const fn channel(choice: ChannelChoice) -> Channel {
    match choice {
        ChannelChoice::Release => Channel::Release,
        ChannelChoice::Alpha => Channel::Alpha,
    }
}

/// The one with programs for transports is for those alone whose bridges need it.
fn tor_recipe(dirs: &Dirs, choice: TorChoice) -> Result<RecipeName, CliError> {
    match (choice, bridge::in_use(dirs)?) {
        (TorChoice::Debian, Bridges::Transports | Bridges::Mute) => Ok(RecipeName::TorTransports),
        (TorChoice::Debian, Bridges::None | Bridges::Plain) => Ok(RecipeName::Tor),
        (TorChoice::TorProject, Bridges::Transports | Bridges::Mute) => Err(CliError::TransportsOfBundle),
        (TorChoice::TorProject, Bridges::None | Bridges::Plain) => Ok(RecipeName::TorBundle),
    }
}

pub(crate) const fn recipe(browser: Browser) -> RecipeName {
    match browser {
        Browser::TorBrowser => RecipeName::TorBrowser,
        Browser::FirefoxEsr => RecipeName::FirefoxEsr,
    }
}

fn request(store: &Store, dirs: &Dirs, recipe: RecipeName, sources: &Sources, indexes: &Indexes) -> Result<BuildRequest, CliError> {
    // A wrong path is said before anything is fetched.
    for path in [&sources.tarball, &sources.signature, &sources.key].into_iter().flatten() {
        File::open(path).map_err(|source| CliError::Path { path: path.clone(), source })?;
    }
    let release = match (&sources.tarball, &sources.signature) {
        (Some(tarball), Some(signature)) if recipe == RecipeName::TorBrowser => {
            Some(ReleaseFiles { tarball: tarball.clone(), signature: signature.clone() })
        }
        _ => None,
    };
    Ok(BuildRequest {
        recipe,
        mirrors: mirrors(sources)?,
        cache: dirs.cache()?,
        channel: match sources.channel {
            Some(choice) => channel(choice),
            None => store.image(&recipe.image(), host())?.map(|image| Channel::of(&image.version)).unwrap_or_default(),
        },
        release,
        key: sources.key.clone(),
        accept_old: sources.accept_old,
        via: sources.via.clone(),
        programs: programs()?,
        arch: Arch::host().ok_or(CliError::Architecture)?,
        locked: None,
        indexes: indexes.clone(),
    })
}

/// The mirrors that were given, else those of this machine.
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
    Ok(Programs { init: find("init")?, gate: find("gate")?, display: find("display")? })
}
