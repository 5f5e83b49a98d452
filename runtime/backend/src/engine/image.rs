//! Images in the engine: there once, by the digest of their configuration, loaded from the store's archive.

use super::endpoint::{Client, Contact, block_on, bounded};
use super::error::EngineError;
use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::fs::File;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// How long loading an image may take.
const LOAD: Duration = Duration::from_secs(600);
const CHUNK: usize = 1 << 20;

/// An image as engines identify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Digest of its manifest: the id in engines that keep images as containerd does.
    pub digest: String,
    /// Digest of its configuration: the id elsewhere.
    pub config: String,
    /// The name that it is loaded under.
    pub name: String,
}

/// The engine's id of each image that it has; `None` for those that must be loaded.
///
/// # Errors
/// [`EngineError`] when it does not answer.
pub fn absent(contact: &Contact, images: &[ImageFile]) -> Result<Vec<Option<String>>, EngineError> {
    block_on(async {
        let client = Client::connect(contact).await?;
        let mut found = Vec::with_capacity(images.len());
        for image in images {
            found.push(id(&client, image).await?);
        }
        Ok(found)
    })
}

/// Asked for by digest, never by name, which anyone can give to another image.
async fn id(client: &Client, image: &ImageFile) -> Result<Option<String>, EngineError> {
    for id in [&image.config, &image.digest] {
        let asked = tokio::time::timeout(super::endpoint::PATIENCE, client.docker.inspect_image(id)).await;
        match asked.map_err(|_| EngineError::Slow { what: "look for an image".to_owned(), seconds: super::endpoint::PATIENCE.as_secs() })? {
            Ok(found) => {
                let told = found.id.unwrap_or_default();
                let told = if told.contains(':') { told } else { format!("sha256:{told}") };
                return if told == *id { Ok(Some(told)) } else { Err(EngineError::WrongImage { wanted: id.clone(), found: told }) };
            }
            Err(error) if super::endpoint::status(&error) == Some(404) => {}
            Err(source) => return Err(EngineError::Refused { what: "look for an image".to_owned(), source: Box::new(source) }),
        }
    }
    Ok(None)
}

/// Loads `image` from `archive`; the engine's id of it.
///
/// # Errors
/// [`EngineError`]; the engine may then have a part of it, under no name that torbox uses.
pub fn load(contact: &Contact, image: &ImageFile, archive: File) -> Result<String, EngineError> {
    block_on(async {
        let client = Client::connect(contact).await?;
        let body = bollard::body_try_stream(chunks(archive));
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        // The connection's own bound is for short requests.
        let docker = client.docker.clone().with_timeout(LOAD);
        bounded(format!("load the image {}", image.name), LOAD, docker.import_image(options, body, None).try_collect::<Vec<_>>()).await?;
        id(&client, image).await?.ok_or_else(|| EngineError::WrongImage { wanted: image.config.clone(), found: "another image".to_owned() })
    })
}

fn chunks(file: File) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let read = |mut file: tokio::fs::File| async move {
        let mut buffer = Vec::with_capacity(CHUNK);
        match (&mut file).take(CHUNK as u64).read_to_end(&mut buffer).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(Bytes::from(buffer)), file)),
            Err(error) => Some((Err(error), file)),
        }
    };
    stream::unfold(tokio::fs::File::from_std(file), read).boxed()
}
