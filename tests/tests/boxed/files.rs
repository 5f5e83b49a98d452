//! What leaves a box and enters it by its user's own action, and what does not, whatever was put into its place.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use torbox_tests::boxed::{Part, Who};
use torbox_tests::display::Xvfb;
use torbox_tests::process::ProcessId;
use torbox_tests::testnet::Via;
use torbox_tests::wait;

use crate::faults::{inside_of, text};
use crate::ground::{Stage, soon};
use crate::page::Awaited;

/// Bytes of the download; the server fills it with dots.
const BYTES: usize = 70_000;
const PAUSE: Duration = Duration::from_millis(100);

/// The address of the download.
pub(crate) fn path() -> String {
    format!("download?bytes={BYTES}")
}

/// A box of torbox's own.
pub(crate) fn downloads_and_uploads(stage: &Stage<'_>) {
    let display = Xvfb::start().unwrap();
    let page = Awaited::new(stage);
    let running = stage.open(&display, "files", &format!("{}{}", stage.ground.net.state().named_url, path()));
    page.request_of(Via::Exit, &format!("/{}", path()), &running);
    leave_and_enter(stage, "files", running.part(Part::Init).unwrap());
    assert_eq!(running.interrupt().unwrap(), Some(0));
    assert_eq!(stage.call(&["downloads", "list", "files"]).0, Some(3));
}

/// A page's download comes out whole and as nothing but a file; a file goes in, and the browser cannot change it. `init` is process 1 of the browser's container.
pub(crate) fn leave_and_enter(stage: &Stage<'_>, name: &str, init: ProcessId) {
    let complete = || Some(listed(stage, name)).filter(|all| all == &serde_json::json!([{"name": "torbox-download.bin", "size": BYTES, "refused": null}]));
    wait::retry(PAUSE, soon(60), complete).unwrap_or_else(|| panic!("{}", listed(stage, name)));
    let to = saved(stage);
    fs::create_dir(&to).unwrap();
    if let Who::User(user) = stage.installed.who() {
        user.give(&to).unwrap();
    }
    let file = to.join("torbox-download.bin");
    assert_eq!(save(stage, name, &[]), (Some(0), format!("{}\n", file.display()), String::new()));
    assert_eq!(fs::read(&file).unwrap(), vec![b'.'; BYTES]);
    let about = fs::metadata(&file).unwrap();
    assert_eq!((about.mode() & 0o7777, about.uid()), (0o600, fs::metadata(stage.installed.dir()).unwrap().uid()));
    assert!(save(stage, name, &["torbox-download.bin"]).1.ends_with("torbox-download (1).bin\n"));
    let (code, _, said) = save(stage, name, &["../../etc/passwd"]);
    assert_eq!((code, said.contains("there is no download")), (Some(1), true), "{said}");
    hostile(stage, name, init);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 3);
    upload(stage, name, init);
    fs::remove_dir_all(to).unwrap();
}

/// Where downloads go.
fn saved(stage: &Stage<'_>) -> PathBuf {
    stage.installed.dir().join("saved")
}

/// Exit code, output and messages of `torbox downloads save`.
fn save(stage: &Stage<'_>, name: &str, which: &[&str]) -> (Option<i32>, String, String) {
    stage.call(&[&["downloads", "save", "--name", name, "--to", saved(stage).to_str().unwrap()], which].concat())
}

fn listed(stage: &Stage<'_>, name: &str) -> serde_json::Value {
    let (code, out, said) = stage.call(&["downloads", "list", name, "--json"]);
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str(&out).unwrap()
}

/// Everything but a plain file is refused, and a plain file comes out under a plain name.
fn hostile(stage: &Stage<'_>, name: &str, init: ProcessId) {
    let script = "cd /home/user/Downloads; ln -s /etc/passwd link; ln -s /proc/self/root way; mkfifo pipe; mkdir dir; echo no > dir/inner; \
                  truncate -s 3G endless; echo half > half.part; echo ok > \"$(printf -- '-rf\\n\\342\\200\\256x.txt')\"; chmod 4777 ./-rf*";
    let done = inside_of(init, script);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let (code, out, said) = save(stage, name, &["link", "way", "pipe", "dir", "endless", "half.part", "rf__x.txt"]);
    assert_eq!((code, out.lines().count()), (Some(1), 1), "{out}{said}");
    for what in ["\"link\" is a symbolic link", "\"way\" is a symbolic link", "\"pipe\" is no regular file", "\"dir\" is a directory", "\"endless\" is longer", "\"half.part\" is still"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    assert!(said.contains("6 of the downloads could not be saved"), "{said}");
    let plain = saved(stage).join("rf__x.txt");
    assert_eq!((fs::read_to_string(&plain).unwrap().as_str(), fs::metadata(&plain).unwrap().permissions().mode() & 0o7777), ("ok\n", 0o600));
}

fn upload(stage: &Stage<'_>, name: &str, init: ProcessId) {
    let letter = stage.installed.dir().join("letter.txt");
    fs::write(&letter, "for the page\n").unwrap();
    fs::set_permissions(&letter, fs::Permissions::from_mode(0o644)).unwrap();
    let uploaded = stage.call(&["upload", "--name", name, letter.to_str().unwrap()]);
    assert_eq!(uploaded, (Some(0), "Uploads/letter.txt\n".to_owned(), String::new()));
    assert_eq!(stage.call(&["upload", "--name", name, letter.to_str().unwrap()]).1, "Uploads/letter (1).txt\n");
    let read = inside_of(init, "cat /home/user/Uploads/letter.txt");
    assert_eq!(text(&read.stdout), "for the page\n", "{}", text(&read.stderr));
    for change in ["echo x >> /home/user/Uploads/letter.txt", "rm -f /home/user/Uploads/letter.txt", "echo x > /home/user/Uploads/more"] {
        let done = inside_of(init, change);
        assert!(!done.status.success() && text(&done.stderr).contains("Permission denied"), "{change}: {}", text(&done.stderr));
    }
    let (code, _, said) = stage.call(&["upload", "--name", name, "/dev/null"]);
    assert_eq!((code, said.contains("it is no regular file")), (Some(1), true), "{said}");
    fs::remove_file(letter).unwrap();
}
