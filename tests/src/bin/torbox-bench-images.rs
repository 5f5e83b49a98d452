//! `make bench`: building both images of a box from an empty store, beside mmdebstrap and a Containerfile, in one run and in turn.
//!
//! Every package is in a local cache before the first measurement. mmdebstrap unpacks the very same packages without their
//! documentation; the Containerfile installs the two programs on a base that is ready. Each ends with gzipped OCI archives.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde::Deserialize;
use torbox_tests::boxed::{Installed, Who, kept_dir};
use torbox_tests::process;
use torbox_tests::require;

const RUNS: usize = 3;
/// The images of a box, and the package of Debian's that each is made for.
const IMAGES: [(&str, &str); 2] = [("torbox/tor", "tor"), ("torbox/firefox-esr", "firefox-esr")];
/// Where the packages of torbox's images are from.
const SUITES: [&str; 2] = ["trixie", "trixie-security"];
/// What neither image needs.
const SLIM: [&str; 5] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/lintian/*", "/usr/share/locale/*"];

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A way to come by both images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Torbox,
    Unchanged,
    BrowserChanged,
    Mmdebstrap,
    Containerfile,
}

const WAYS: [(Way, &str); 5] = [
    (Way::Torbox, "torbox build, empty store"),
    (Way::Unchanged, "torbox build, nothing changed"),
    (Way::BrowserChanged, "torbox build, only the browser's layer is missing"),
    (Way::Mmdebstrap, "mmdebstrap of the same packages, skopeo"),
    (Way::Containerfile, "podman build on a ready base, podman push"),
];

/// What one run of one way cost.
struct Sample {
    elapsed: f64,
    processor: f64,
    /// Of each image, compressed.
    bytes: [u64; 2],
}

fn bench() -> Result<()> {
    for program in ["mmdebstrap", "skopeo", "podman"] {
        ensure!(require::program(program).is_some(), "{program} is not installed");
    }
    let kept = Installed::new(Who::Root, &kept_dir()?)?;
    kept.build_images()?;
    let work = tempfile::Builder::new().prefix("torbox-bench-images-").tempdir()?;
    // apt fetches as a user of its own.
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755))?;
    let bench = Bench::prepare(&kept, work.path())?;
    let mut samples: Vec<Vec<Sample>> = WAYS.iter().map(|_| Vec::new()).collect();
    for run in 1..=RUNS {
        for ((way, name), samples) in WAYS.iter().zip(&mut samples) {
            let sample = bench.run(*way).with_context(|| format!("{name}, run {run}"))?;
            eprintln!("bench: run {run}, {name}: {:.2} s", sample.elapsed);
            samples.push(sample);
        }
    }
    print(&samples);
    Ok(())
}

struct Bench<'a> {
    torbox: Installed<'a>,
    work: PathBuf,
    /// The names of each image's packages.
    packages: [Vec<String>; 2],
}

impl<'a> Bench<'a> {
    fn prepare(kept: &Installed<'_>, work: &Path) -> Result<Self> {
        let torbox = Installed::new(Who::Root, work)?;
        let cache = kept.dir().join("cache");
        process::output(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&cache).arg(torbox.dir()))?;
        let [tor, browser] = IMAGES.map(|(image, _)| materials(kept, image));
        let packages = [tor?, browser?];
        repository(packages.iter().flatten(), &cache.join("sha256"), &work.join("repository"))?;
        let names = packages.map(|packages| packages.into_iter().map(|package| package.name).collect());
        let bench = Self { torbox, work: work.to_owned(), packages: names };
        bench.ready_base()?;
        Ok(bench)
    }

    /// What `podman build` starts from: Debian with apt, the indexes and the packages' files already there.
    fn ready_base(&self) -> Result<()> {
        let (base, archives) = (self.work.join("base.tar"), self.work.join("archives"));
        fs::create_dir(&archives)?;
        let names = IMAGES.map(|(_, package)| package).join(" ");
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--mode=root", "--variant=apt", "--skip=cleanup/apt"]);
        command.arg(format!("--customize-hook=chroot \"$1\" apt-get install --yes --no-install-recommends --download-only {names}"));
        command.arg(format!("--customize-hook=mv \"$1\"/var/cache/apt/archives/*.deb {}", archives.display()));
        process::output(command.arg(SUITES[0]).arg(&base).args(sources()?))?;
        process::output(self.podman(["import", "--quiet"]).arg(&base).arg("base"))?;
        for (_, package) in IMAGES {
            let dir = self.work.join(package);
            fs::create_dir(&dir)?;
            fs::write(dir.join("Containerfile"), format!("FROM localhost/base\nRUN apt-get install --yes --no-install-recommends {package}\n"))?;
        }
        Ok(())
    }

    fn run(&self, way: Way) -> Result<Sample> {
        match way {
            Way::Torbox => self.forget("data/images")?,
            Way::BrowserChanged => self.forget_browser()?,
            Way::Unchanged | Way::Mmdebstrap | Way::Containerfile => {}
        }
        let (begun, used) = (Instant::now(), processor()?);
        let bytes = match way {
            Way::Torbox | Way::Unchanged | Way::BrowserChanged => self.build()?,
            Way::Mmdebstrap => self.mmdebstrap()?,
            Way::Containerfile => self.containerfile()?,
        };
        Ok(Sample { elapsed: begun.elapsed().as_secs_f64(), processor: (processor()? - used).as_secs_f64(), bytes })
    }

    /// Removes something of torbox's directory.
    fn forget(&self, what: &str) -> Result<()> {
        let path = self.torbox.dir().join(what);
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
        Ok(())
    }

    /// Removes the browser's layer from the store, which then is as before a newer browser's is made.
    fn forget_browser(&self) -> Result<()> {
        let store = self.torbox.dir().join("data/images");
        for record in fs::read_dir(store.join("layers"))? {
            let record = record?.path();
            let layer: Layer = serde_json::from_slice(&fs::read(&record)?)?;
            if layer.version.is_some() {
                fs::remove_file(record)?;
                fs::remove_file(store.join("blobs").join(layer.written.digest.replace(':', "/")))?;
                return Ok(());
            }
        }
        bail!("no layer of a browser")
    }

    /// What a user does, and the archives for engines as well.
    fn build(&self) -> Result<[u64; 2]> {
        process::output(&mut self.torbox.command(None, ["build", "--browser", "firefox-esr"]))?;
        let text = process::output(&mut self.torbox.command(None, ["images", "--json"]))?;
        let images: Vec<Image> = serde_json::from_slice(&text)?;
        let size = |name| images.iter().find(|image| image.name == name).map_or(0, |image| image.compressed_size);
        Ok(IMAGES.map(|(image, _)| size(image)))
    }

    fn mmdebstrap(&self) -> Result<[u64; 2]> {
        let one = |package: &str, names: &[String]| {
            let (tar, archive) = (self.work.join("root.tar"), self.work.join(format!("{package}-mmdebstrap.oci.tar")));
            let source = format!("deb [trusted=yes] copy:{} ./", self.work.join("repository").display());
            let mut command = Command::new("mmdebstrap");
            command.args(["--quiet", "--mode=root", "--variant=extract", &format!("--include={}", names.join(","))]);
            command.args(SLIM.map(|path| format!("--dpkgopt=path-exclude={path}")));
            process::output(command.arg("").arg(&tar).arg(source))?;
            let mut copy = Command::new("skopeo");
            copy.args(["--insecure-policy", "copy", "--quiet"]).arg(format!("tarball:{}", tar.display()));
            written(copy, &archive)
        };
        let ([(_, tor), (_, browser)], [of_tor, of_browser]) = (IMAGES, &self.packages);
        Ok([one(tor, of_tor)?, one(browser, of_browser)?])
    }

    fn containerfile(&self) -> Result<[u64; 2]> {
        let one = |package: &str| {
            // Without a network namespace, which some machines do not let it make; nothing is fetched.
            let mut build = self.podman(["build", "--quiet", "--no-cache", "--isolation=chroot", "--network=host", "--tag", package]);
            build.arg("--volume").arg(format!("{}:/var/cache/apt/archives", self.work.join("archives").display())).arg(self.work.join(package));
            process::output(&mut build)?;
            written(self.podman(["push", "--quiet", "--format=oci", package]), &self.work.join(format!("{package}-podman.oci.tar")))
        };
        let [tor, browser] = IMAGES.map(|(_, package)| one(package));
        Ok([tor?, browser?])
    }

    /// Podman with a storage of its own.
    fn podman<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.work.join("storage")).arg("--runroot").arg(self.work.join("storage-run"));
        command.args(["--storage-driver=overlay", "--cgroup-manager=cgroupfs", "--runtime=runc"]).args(args);
        command
    }
}

/// Has `command` write the OCI archive `archive`, and returns its size.
fn written(mut command: Command, archive: &Path) -> Result<u64> {
    if archive.exists() {
        fs::remove_file(archive)?;
    }
    process::output(command.arg(format!("oci-archive:{}", archive.display())))?;
    Ok(fs::metadata(archive)?.len())
}

/// What `torbox images --json` tells of an image.
#[derive(Deserialize)]
struct Image {
    name: String,
    compressed_size: u64,
}

/// The store's record of a layer.
#[derive(Deserialize)]
struct Layer {
    written: Written,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    digest: String,
}

/// A package that an image is made of.
struct Package {
    name: String,
    version: String,
    /// Its file's name, and in the cache its digest.
    file: String,
    sha256: String,
}

/// The packages in an image's bill of materials.
fn materials(kept: &Installed<'_>, image: &str) -> Result<Vec<Package>> {
    let text = process::output(&mut kept.command(None, ["images", "sbom", image]))?;
    let document: Document = serde_json::from_slice(&text)?;
    let packages = document.components.into_iter().filter(|component| component.purl.is_some());
    let package = |of: Component| {
        let (Some(path), Some(hash)) = (of.properties.into_iter().next(), of.hashes.into_iter().next()) else { bail!("{} is not complete", of.name) };
        let file = path.value.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Package { name: of.name, version: of.version, file, sha256: hash.content })
    };
    packages.map(package).collect()
}

/// What is read of a bill of materials.
#[derive(Deserialize)]
struct Document {
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    name: String,
    #[serde(default)]
    version: String,
    /// Of packages alone.
    purl: Option<String>,
    #[serde(default)]
    hashes: Vec<Hash>,
    /// The first is where its file is.
    #[serde(default)]
    properties: Vec<Property>,
}

#[derive(Deserialize)]
struct Hash {
    content: String,
}

#[derive(Deserialize)]
struct Property {
    value: String,
}

/// A repository for apt of the packages in the cache, without what they depend on: each is installed by its name.
fn repository<'p>(packages: impl Iterator<Item = &'p Package>, cache: &Path, dir: &Path) -> Result<()> {
    fs::create_dir(dir)?;
    let mut index = String::new();
    for Package { name, version, file, sha256 } in packages {
        let (kept, own) = (cache.join(sha256), dir.join(file));
        if own.exists() {
            continue;
        }
        fs::copy(&kept, &own).with_context(|| format!("{name} is not in the cache"))?;
        let (size, arch) = (fs::metadata(&own)?.len(), file.trim_end_matches(".deb").rsplit('_').next().unwrap_or_default());
        index += &format!("Package: {name}\nVersion: {version}\nArchitecture: {arch}\nFilename: ./{file}\nSize: {size}\nSHA256: {sha256}\n\n");
    }
    Ok(fs::write(dir.join("Packages"), index)?)
}

/// Lines for apt: the suites of torbox's images, from the mirrors of this machine's own sources.
fn sources() -> Result<Vec<String>> {
    let known = process::output(Command::new("apt-get").args(["indextargets", "--format", "$(SITE)"]))?;
    let known = String::from_utf8(known)?;
    let mirror = |security: bool| known.lines().find(|site| site.contains("/debian") && site.trim_end_matches('/').ends_with("debian-security") == security);
    let [main, security] = SUITES.map(|suite| (suite, mirror(suite.ends_with("security"))));
    let line = |(suite, site): (&str, Option<&str>)| site.map(|site| format!("deb {site} {suite} main")).context("apt's sources name no mirror of Debian");
    Ok(vec![line(main)?, line(security)?])
}

/// Processor time of all that has been run and has ended.
fn processor() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |value: nix::sys::time::TimeVal| Duration::new(value.tv_sec().unsigned_abs(), u32::try_from(value.tv_usec()).unwrap_or(0) * 1000);
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(samples: &[Vec<Sample>]) {
    let elapsed = |samples: &[Sample]| median(samples.iter().map(|sample| sample.elapsed));
    println!("| both images, {RUNS} runs in turn, medians | s | of it processor s | tor MB | firefox-esr MB |\n|---|---|---|---|---|");
    for ((_, name), samples) in WAYS.iter().zip(samples) {
        let processor = median(samples.iter().map(|sample| sample.processor));
        let [tor, browser] = samples.first().map_or([0.0; 2], |sample| sample.bytes.map(|bytes| bytes as f64 / 1e6));
        println!("| {name} | {:.2} | {processor:.2} | {tor:.1} | {browser:.1} |", elapsed(samples));
    }
    let of = |wanted: Way| WAYS.iter().zip(samples).filter(|((way, _), _)| *way == wanted).map(|(_, samples)| elapsed(samples)).fold(f64::NAN, f64::min);
    println!("\nthe faster of the two others takes {:.1} times as long as torbox", of(Way::Mmdebstrap).min(of(Way::Containerfile)) / of(Way::Torbox));
}
