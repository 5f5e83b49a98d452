//! `torbox downloads` and `torbox upload`: what leaves a running box and enters it, by its user's own action.

use crate::args::{DownloadsAction, Format, Save, Upload};
use crate::control::{BROWSER, State, ask};
use crate::dirs::Dirs;
use crate::engine::Mark;
use crate::error::CliError;
use crate::system;
use std::fs::File;
use torbox_backend::files::{Directory, Download, Exchange, FilesError, open_directory};
use torbox_plan::BoxName;

/// `torbox downloads`.
pub(crate) fn downloads(dirs: &Dirs, action: &DownloadsAction) -> Result<(), CliError> {
    match action {
        DownloadsAction::List { of, format } => list(enter(dirs, &of.name)?.as_ref(), format),
        DownloadsAction::Save(which) => {
            let to = open_directory(&which.to)?;
            save(enter(dirs, &which.name)?.as_ref(), which, &to)
        }
    }
}

/// `torbox upload`.
pub(crate) fn upload(dirs: &Dirs, which: &Upload) -> Result<(), CliError> {
    // Opened here: inside, no path of the host is there any more.
    let opened = which.files.iter().map(|path| {
        let failed = |source| CliError::Path { path: path.clone(), source };
        let file = File::open(path).map_err(failed)?;
        let plain = file.metadata().map_err(failed)?.is_file();
        let name = path.file_name().filter(|_| plain).ok_or_else(|| failed(std::io::Error::other("it is no regular file")))?;
        Ok((file, name))
    });
    let opened = opened.collect::<Result<Vec<_>, CliError>>()?;
    let files = enter(dirs, &which.name)?;
    for (file, name) in opened {
        println!("Uploads/{}", files.put(&file, &name.to_string_lossy())?);
    }
    Ok(())
}

/// Moves this process into the box, or finds its container where it is in an engine.
fn enter(dirs: &Dirs, name: &BoxName) -> Result<Box<dyn Exchange>, CliError> {
    let not_running = || CliError::NotRunning(name.clone());
    let status = ask(dirs, name, "status")?.ok_or_else(not_running)?;
    let State { pid, .. } = serde_json::from_str(&status).map_err(|_| CliError::NoAnswer)?;
    let browser = ask(dirs, name, BROWSER)?.ok_or_else(not_running)?;
    if let Some(mark) = Mark::of(dirs, name)? {
        return Ok(Box::new(mark.files(name)?));
    }
    let browser = browser.parse().map_err(|_| CliError::NoFiles(name.clone()))?;
    Ok(system::join(pid, browser)?)
}

fn list(files: &dyn Exchange, format: &Format) -> Result<(), CliError> {
    let downloads = files.downloads()?;
    if format.json {
        let all: Vec<_> = downloads.iter().map(|file| serde_json::json!({"name": file.safe_name, "size": file.size, "refused": file.refused})).collect();
        println!("{}", serde_json::Value::from(all));
        return Ok(());
    }
    if downloads.is_empty() {
        println!("nothing was downloaded");
    }
    downloads.iter().for_each(|file| println!("{}", describe(file)));
    Ok(())
}

fn describe(file: &Download) -> String {
    let refused = file.refused.map(|what| format!("  cannot be saved: {what}")).unwrap_or_default();
    format!("{:>12}  {}{refused}", file.size, file.safe_name)
}

fn save(files: &dyn Exchange, which: &Save, to: &Directory) -> Result<(), CliError> {
    let all = files.downloads()?;
    let missing = |name: &&String| !all.iter().any(|file| file.safe_name == **name);
    if let Some(name) = which.downloads.iter().find(missing) {
        return Err(FilesError::Missing(name.clone()).into());
    }
    let wanted = |file: &&Download| which.downloads.is_empty() || which.downloads.contains(&file.safe_name);
    let mut failed = 0;
    for file in all.iter().filter(wanted) {
        match files.save(file, to) {
            Ok(name) => println!("{}", which.to.join(name).display()),
            Err(error) => {
                failed += 1;
                CliError::from(error).say();
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(CliError::NotSaved(failed)) }
}
