//! A "Tor Project" of the tests' own on loopback: release index, signed checksums, archives, certificate.

use super::{Bench, Repository, Server, Signatory, now, sha256};
use chrono::{DateTime, Utc};
use torbox_images::{BuildRequest, Channel, Error, Image, Recipe, RecipeName, Trust, build_from};

pub struct Project {
    pub server: Server,
    pub repository: Repository,
    /// Whose certificate torbox carries.
    pub key: Signatory,
    /// Who signs.
    pub signer: Signatory,
    /// Begins every address; a test may put a name in its place that only its proxy knows.
    pub origin: String,
    pub bench: Bench,
}

impl Project {
    pub fn new() -> Self {
        let (server, key) = (Server::start(), Signatory::new(None));
        let origin = server.url.clone();
        Self { server, repository: Repository::new(), signer: key.clone(), key, origin, bench: Bench::new() }
    }

    pub fn archive(version: &str) -> String {
        format!("tor-browser-linux-x86_64-{version}.tar.xz")
    }

    pub fn at(version: &str, file: &str) -> String {
        format!("dist/{version}/{file}")
    }

    /// Publishes a release in a channel, with an archive of the given name, all signed at `at`.
    pub fn publish_file(&self, channel: Channel, version: &str, name: &str, archive: &[u8], at: DateTime<Utc>) {
        let put = |file: &str, bytes: Vec<u8>| self.server.put(&Self::at(version, file), bytes);
        let sums = format!("{}  something-else.zip\n{}  {name}\n", sha256(b"x"), sha256(archive));
        put("sha256sums-signed-build.txt.asc", self.signer.detached(sums.as_bytes(), at));
        put("sha256sums-signed-build.txt", sums.into_bytes());
        put(&format!("{name}.asc"), self.signer.detached(archive, at));
        put(name, archive.to_vec());
        self.index(channel, version, &format!("{}/{}", self.origin, Self::at(version, &Self::archive(version))));
    }

    pub fn publish(&self, version: &str) {
        self.publish_file(Channel::of(version), version, &Self::archive(version), &super::browser_archive(version, &[]), now());
    }

    pub fn index(&self, channel: Channel, version: &str, binary: &str) {
        let json = format!(r#"{{"binary":"{binary}","git_tag":"x","sig":"{binary}.asc","version":"{version}"}}"#);
        self.server.put(&format!("index/{channel}/x86_64.json"), json.into_bytes());
    }

    pub fn recipe(&self) -> Recipe {
        let mut recipe = super::browser_recipe(&self.key.fingerprint());
        let project = recipe.tor_project.as_mut().unwrap();
        project.certificate = format!("{}/certificate", self.origin);
        project.index = format!("{}/index/{{channel}}/{{machine}}.json", self.origin);
        project.releases = vec![format!("{}/dist/{{version}}", self.origin)];
        project.origins = vec![self.origin.clone()];
        recipe
    }

    pub fn trust(&self) -> Trust {
        let mut trust = self.repository.trust();
        trust.certificates.push(("browser.asc".into(), self.key.public()));
        trust
    }

    pub fn request(&self) -> BuildRequest {
        BuildRequest { recipe: RecipeName::TorBrowser, ..self.bench.request(&self.repository.server.url) }
    }

    pub fn build(&self) -> Result<Image, Error> {
        self.build_as(&self.request())
    }

    pub fn build_as(&self, request: &BuildRequest) -> Result<Image, Error> {
        build_from(&self.bench.store(), &self.recipe(), &self.trust(), now(), request, &mut super::Quiet)
    }
}
