//! Two unlike hosts: everything that can be read in a box on each, compared. What differs is the list in `docs/hosts.md`, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::sethostname;
use torbox_tests::boxed::{END, Installed, Part, RunningBox, Who, kept_dir};
use torbox_tests::display::Xvfb;

use crate::faults::{inside, text};
use crate::ground::{Kind, Stage, soon};

/// What a program finds, one `NAME<tab>VALUE` a line: every file's content (of the image's own, which are checked by digest, what stat(2) says),
/// and what the calls say that tell of a machine. Left out are a process's own numbers: its addresses, its times and its memory.
const COLLECT: &str = r#"
say() { printf '%s\t%s\n' "$1" "$(tr '\n\t' '  ')"; }
sum() { md5sum 2>/dev/null | cut -c1-32; }
for what in 'uname -a' 'uname -r' hostname id nproc 'date +%Z' 'ulimit -a' 'free -t'; do $what 2>&1 | say "call $what"; done
df -k -a 2>/dev/null | awk 'NR>1 {print $NF, $2}' | sort | sum | say 'call statfs: sizes'
find / -xdev \( -path /proc -o -path /dev -o -path /run -o -path /tmp -o -path /home \) -prune -o -print0 2>/dev/null | xargs -0 stat -c '%n %a %u %g %s %Y %F' | sort | sum | say 'image: modes, owners, sizes, times'
echo $(($(cut -d' ' -f22 /proc/1/stat) / 10000)) | say 'clock: when the box began, to 100 s'
stat -c %d / | say 'image: device number'
stat -c %i / /usr /opt /etc/passwd | say 'image: inode numbers'
for file in /etc/* /run/torbox/*; do [ -f "$file" ] && sum < "$file" | say "$file"; done
find /dev /run /tmp /home -print0 2>/dev/null | grep -zv '/home/user/\|/dev/shm/\|/tmp/Temp\|/tmp/firefox\|/run/user/' | xargs -0 stat -c '%n %a %u %g %F %t %T' | sort | say 'places: what lies in them'
find /proc -path '/proc/[0-9]*' -prune -o -path /proc/self -prune -o -path /proc/thread-self -prune -o -type f -print 2>/dev/null | while read -r file; do
  [ "$file" = /proc/kmsg ] || timeout 2 head -c 100000 "$file" 2>/dev/null | sum | say "$file"; done
for file in mountinfo mounts mountstats cgroup limits uid_map gid_map setgroups projid_map environ cmdline comm personality oom_score_adj timens_offsets loginuid sessionid cpuset coredump_filter \
  attr/current net/dev net/route net/unix net/arp net/if_inet6 net/ipv6_route net/sockstat net/protocols net/snmp net/netstat net/softnet_stat net/ptype net/dev_mcast; do
  head -c 100000 /proc/1/$file 2>&1 | tr '\0' ' ' | say "/proc/1/$file"; done
grep -v '^Vm\|^Rss\|_ctxt_switches\|^State\|^Sig\|^Shd\|^HugetlbPages\|^Threads' /proc/1/status | say /proc/1/status
find /sys -type f 2>/dev/null | sort | sum | say /sys
"#;

/// What is found in a box that runs.
fn findings(running: &RunningBox) -> BTreeMap<String, String> {
    let done = inside(running, Part::Init, COLLECT);
    let said = text(&done.stdout);
    let found: BTreeMap<_, _> = said.lines().filter_map(|line| line.split_once('\t')).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    assert!(found.len() > 55, "{said}{}", text(&done.stderr));
    found
}

/// A host as a call of torbox sees it.
struct Likeness {
    hostname: &'static str,
    /// `CPU` list of taskset(1).
    cpus: &'static str,
    zone: &'static str,
    language: &'static str,
    machine_id: &'static str,
    /// Seconds that the machine seems to have been up beyond what it has.
    uptime: &'static str,
    /// Of its screen.
    size: (u16, u16),
}

const ONE: Likeness = Likeness { hostname: "alices-laptop", cpus: "0,1", zone: "Europe/Paris", language: "fr_FR.UTF-8", machine_id: "11111111111111111111111111111111", uptime: "0", size: (1280, 1024) };
const OTHER: Likeness = Likeness { hostname: "kiosk", cpus: "0", zone: "Asia/Tokyo", language: "ja_JP.UTF-8", machine_id: "22222222222222222222222222222222", uptime: "8000000", size: (1920, 1200) };

impl Likeness {
    /// `command` on such a host.
    fn on(&self, command: &Command, id: &Path) -> Command {
        fs::write(id, format!("{}\n", self.machine_id)).unwrap();
        let disguise = format!("mount --bind {} /etc/machine-id && exec taskset --cpu-list {} \"$@\"", id.display(), self.cpus);
        let mut disguised = Command::new("unshare");
        disguised.args(["--mount", "--time", "--boottime", self.uptime, "--monotonic", self.uptime, "sh", "-c", &disguise, "sh"]).arg(command.get_program()).args(command.get_args());
        disguised.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TZ", self.zone).env("LANG", self.language).env("LC_ALL", self.language);
        disguised
    }
}

/// In a thread with a host name of its own, which what it starts inherits: the keys of an X server name the host too.
fn on_host(stage: &Stage<'_>, likeness: &Likeness, display: &Xvfb) -> BTreeMap<String, String> {
    let renamed = || {
        unshare(CloneFlags::CLONE_NEWUTS).unwrap();
        sethostname(likeness.hostname).unwrap();
        find(stage, likeness, display)
    };
    std::thread::scope(|scope| scope.spawn(renamed).join().unwrap())
}

fn find(stage: &Stage<'_>, likeness: &Likeness, display: &Xvfb) -> BTreeMap<String, String> {
    let command = likeness.on(&stage.run_command(display, "host", "about:blank"), &stage.out.path().join("machine-id"));
    let mut running = stage.start(command, "host");
    running.wait_until_said("connected to the Tor network", soon(60)).unwrap();
    let found = findings(&running);
    assert_eq!(running.interrupt_within(END).unwrap(), Some(0));
    found
}

/// The rows of the document: what differs, and whether it must.
fn listed() -> BTreeMap<String, bool> {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hosts.md")).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(what, rest)| (what.to_owned(), rest.starts_with("always | "))).collect()
}

/// A user, and root, whose files are in memory.
pub(crate) fn two_unlike(stage: &Stage<'_>) {
    let one = on_host(stage, &ONE, &Xvfb::start_of(ONE.size).unwrap());
    let memory = tempfile::Builder::new().prefix("torbox-boxed-").tempdir_in("/dev/shm").unwrap();
    fs::set_permissions(memory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let installed = Installed::new(Who::Root, memory.path()).unwrap();
    installed.take_images(&Installed::new(Who::Root, &kept_dir().unwrap()).unwrap()).unwrap();
    let root = Stage::of(stage.ground, Kind::Root, installed);
    let other = on_host(&root, &OTHER, &Xvfb::start_of(OTHER.size).unwrap());

    let names: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differs: BTreeSet<String> = names.into_iter().filter(|name| one.get(*name) != other.get(*name)).cloned().collect();
    let shown = |name: &String| format!("{name}:\n  {:?}\n  {:?}", one.get(name), other.get(name));
    let listed = listed();
    let more: Vec<_> = differs.iter().filter(|name| !listed.contains_key(*name)).map(shown).collect();
    let less: Vec<_> = listed.iter().filter(|(name, always)| **always && !differs.contains(*name)).collect();
    assert!(more.is_empty() && less.is_empty(), "not in docs/hosts.md, but different:\n{}\nin docs/hosts.md, but equal: {less:?}", more.join("\n"));
    eprintln!("{} things were compared, {} differ", one.len(), differs.len());
    // The positive control: torbox was told all of this.
    let told = |words: &[&str]| words.iter().all(|word| !one.values().chain(other.values()).any(|value| value.contains(word)));
    assert!(told(&[ONE.hostname, OTHER.hostname, ONE.zone, OTHER.zone, "fr_FR", "ja_JP", ONE.machine_id, OTHER.machine_id]));
}
