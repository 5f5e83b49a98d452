//! Other people's programs as judges of what comes out: skopeo, umoci and Podman read the images, a registry takes them, and a JSON schema
//! validator judges the bill of materials.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::allow_attributes, missing_docs, unreachable_pub, dead_code, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    io::Read,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{Bench, Quiet, Repository, skip};
use torbox_images::{Image, export_archive, export_dir};

struct Exported {
    bench: Bench,
    image: Image,
    archive: PathBuf,
    dir: PathBuf,
}

fn exported() -> Exported {
    let (bench, repository) = (Bench::new(), Repository::new());
    let image = bench.build(&repository).unwrap();
    let (archive, dir) = (bench.dir.join("image.tar"), bench.dir.join("image"));
    export_archive(&bench.store(), &image, &archive).unwrap();
    export_dir(&bench.store(), &image, &dir).unwrap();
    Exported { bench, image, archive, dir }
}

/// What a program prints; none where it is not installed.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(program).args(args).output() else {
        skip(&format!("{program} is not installed"));
        return None;
    };
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn skopeo_reads_and_copies_every_form() {
    let Exported { bench, image, archive, dir } = exported();
    let forms = [format!("oci-archive:{}", archive.display()), format!("docker-archive:{}", archive.display()), format!("oci:{}", dir.display())];
    for (number, form) in forms.iter().enumerate() {
        let Some(config) = output("skopeo", &["inspect", "--config", form]) else { return };
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let diff_ids: Vec<_> = config["rootfs"]["diff_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        assert_eq!(diff_ids, image.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>(), "{form}");
        assert_eq!(config["config"]["Labels"]["torbox.anonymous"], "true", "{form}");
        let copy = format!("oci:{}", bench.dir.join(format!("copy-{number}")).display());
        output("skopeo", &["--insecure-policy", "copy", "--quiet", form, &copy]).unwrap();
    }
    let manifest: serde_json::Value = serde_json::from_str(&output("skopeo", &["inspect", "--raw", &forms[0]]).unwrap()).unwrap();
    for key in ["created", "licenses", "revision", "source", "title", "version"] {
        assert!(manifest["annotations"][format!("org.opencontainers.image.{key}")].as_str().is_some_and(|value| !value.is_empty()), "{key}");
    }
}

/// Type, path and content of everything below a directory.
fn contents(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.strip_prefix(root).unwrap().to_owned();
            let content = if kind.is_symlink() { fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes() } else if kind.is_dir() { b"/".to_vec() } else { fs::read(&path).unwrap() };
            found.push((name, content));
            dirs.extend(kind.is_dir().then_some(path));
        }
    }
    found.sort();
    found
}

#[test]
fn umoci_unpacks_what_the_store_unpacks() {
    let Exported { bench, image, dir, .. } = exported();
    let (bundle, layout) = (bench.dir.join("bundle"), format!("{}:{}", dir.display(), image.name));
    if output("umoci", &["unpack", "--rootless", "--image", &layout, bundle.to_str().unwrap()]).is_none() {
        return;
    }
    let own = bench.store().rootfs(&image, &mut Quiet).unwrap();
    let theirs = contents(&bundle.join("rootfs"));
    assert!(theirs.len() > 20 && theirs == contents(own.path()));
}

#[test]
fn root_podman_loads_the_archive_under_its_name() {
    if !rustix::process::geteuid().is_root() {
        return skip("a storage of podman's own needs root here");
    }
    let Exported { bench, image, archive, .. } = exported();
    let (root, run) = (bench.dir.join("podman"), bench.dir.join("podman-run"));
    let own = ["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap(), "--storage-driver", "vfs"];
    let podman = |args: &[&str]| output("podman", &[&own, args].concat());
    if podman(&["load", "--quiet", "--input", archive.to_str().unwrap()]).is_none() {
        return;
    }
    let id = podman(&["image", "inspect", "--format", "{{.Id}}", &image.engine_name()]).unwrap();
    assert_eq!(id.trim(), image.config.hex());
    podman(&["rmi", "--force", &image.engine_name()]).unwrap();
}

/// A registry (OCI distribution specification) on loopback, which ends with its owner.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    /// None where the program is not installed.
    fn start(dir: &Path) -> Option<Self> {
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = dir.join("registry.yml");
        let text = format!("version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n", dir.join("registry").display());
        fs::write(&config, text).unwrap();
        let process = Command::new("docker-registry").arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let registry = Self { process, address };
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < end, "the registry does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_registry_takes_every_form_and_keeps_the_digest() {
    let Exported { bench, image, archive, dir } = exported();
    let Some(registry) = Registry::start(&bench.dir) else { return skip("docker-registry is not installed") };
    for (name, form) in [("archive", format!("oci-archive:{}", archive.display())), ("dir", format!("oci:{}", dir.display()))] {
        let pushed = format!("docker://{}/torbox/{name}", registry.address);
        if output("skopeo", &["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", &form, &pushed]).is_none() {
            return;
        }
        let inspected = output("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &pushed]).unwrap();
        assert_eq!(inspected.trim(), image.digest.to_string(), "{name}");
    }
}

/// The published schema of CycloneDX 1.5, with what it takes from other schemas (licences, signatures) let through.
#[test]
fn a_schema_validator_accepts_the_bill_of_materials() {
    const VALIDATE: &str = "
import json, sys, jsonschema
schema, document = (json.load(open(path)) for path in sys.argv[1:3])
resolver = jsonschema.RefResolver.from_schema(schema, handlers={'http': lambda url: {'definitions': {'signature': {}}}})
jsonschema.Draft7Validator(schema, resolver=resolver).validate(document)
print('valid')";
    let Exported { bench, image, .. } = exported();
    let (schema, good, bad) = (bench.dir.join("schema.json"), bench.dir.join("sbom.json"), bench.dir.join("bad.json"));
    let mut text = String::new();
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cyclonedx-1.5.schema.json.gz");
    flate2::read::GzDecoder::new(fs::File::open(packed).unwrap()).read_to_string(&mut text).unwrap();
    fs::write(&schema, text).unwrap();
    let sbom = String::from_utf8(bench.store().sbom(&image).unwrap()).unwrap();
    fs::write(&good, &sbom).unwrap();
    fs::write(&bad, sbom.replacen("SHA-256", "SHA-257", 1)).unwrap();
    let run = |document: &Path| Command::new("/usr/bin/python3").args(["-c", VALIDATE]).arg(&schema).arg(document).output();
    let Ok(judged) = run(&good) else { return skip("python3 is not installed") };
    let said = String::from_utf8_lossy(&judged.stderr).into_owned();
    if said.contains("No module named 'jsonschema'") {
        return skip("python3-jsonschema is not installed");
    }
    assert!(judged.status.success() && judged.stdout.starts_with(b"valid"), "{said}");
    assert!(!run(&bad).unwrap().status.success(), "a wrong one is found");
    let document: serde_json::Value = serde_json::from_str(&sbom).unwrap();
    // Each file is under the package that it is from, and nothing is there without one.
    let components = document["components"].as_array().unwrap();
    let files = |name: &str| {
        let component = components.iter().find(|component| component["name"] == name).unwrap();
        component["components"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((files("server"), files("lib")), (vec!["/usr/bin/server".to_owned()], vec!["/usr/share/lib/data".to_owned()]));
    assert_eq!(files("torbox-gate"), ["/usr/libexec/torbox/gate"]);
    let listed: usize = components.iter().map(|component| component["components"].as_array().unwrap().len()).sum();
    let root = bench.store().rootfs(&image, &mut Quiet).unwrap();
    assert_eq!(listed, contents(root.path()).iter().filter(|(path, _)| fs::symlink_metadata(root.path().join(path)).unwrap().is_file()).count());
}
