//! A machine of its own for what this one cannot show: another kernel, with the unified hierarchy of control groups alone. A current kernel of
//! Debian's, emulated, since not every machine has a KVM that works, with a root file system made here and no network but the one of a
//! test's namespace, if that.
//!
//! The guest's first process is a script; what it prints on the console is the result.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::boxed::kept_dir;
use crate::process;
use crate::testnet::Namespace;
use crate::wait;

/// How long a guest may run. It is twenty times as slow as this machine.
const PATIENCE: Duration = Duration::from_secs(500);
/// Where its users live.
const HOME: &str = "/home";
/// Packs what the guest begins with.
const BUSYBOX: &str = "/bin/busybox";
/// What the disk, the images' overlays and the network need, in the order of loading.
const MODULES: [&str; 5] = ["virtio_blk", "overlay", "failover", "net_failover", "virtio_net"];
/// Finds the disk and hands over to its `/init`.
const LOADER: &str = "#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod $module; done
/bin/busybox mount -t ext4 /dev/vda /new || /bin/busybox poweroff -f
exec /bin/busybox switch_root /new /init
";

/// What kind of machine the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    /// As this one; programs and their libraries are copied from here.
    Same,
    /// AArch64, with all that it has unpacked in `out/arm64`.
    Arm64,
}

impl Machine {
    fn kernel(self) -> Result<PathBuf> {
        Ok(kept_dir()?.join(if self == Self::Same { "kernel" } else { "arm64" }))
    }

    fn busybox(self) -> Result<PathBuf> {
        Ok(if self == Self::Same { PathBuf::from(BUSYBOX) } else { self.kernel()?.join("usr/bin/busybox") })
    }

    /// QEMU for it, the machine, and where its kernel prints. One processor: an emulated one may run what another is just rewriting of the
    /// kernel, which then ends ("Oops: int3").
    const fn emulator(self) -> (&'static str, [&'static str; 4], &'static str) {
        match self {
            Self::Same => ("qemu-system-x86_64", ["-machine", "q35,accel=tcg", "-cpu", "qemu64"], "ttyS0"),
            // Its own way of authenticating pointers is slow to emulate.
            Self::Arm64 => ("qemu-system-aarch64", ["-machine", "virt,accel=tcg", "-cpu", "max,pauth-impdef=on"], "ttyAMA0"),
        }
    }
}

/// Mounts what a machine has (the shell finds its own commands through proc(5)). What a call printed stands between `BEGIN name` and `END name code`.
const BEGIN: &str = r#"#!/bin/busybox sh
export PATH=/usr/bin:/bin:/usr/sbin
/bin/busybox mount -t proc proc /proc; mount -t devtmpfs dev /dev; mount -t sysfs sys /sys; mount -t tmpfs -o mode=1777 tmp /tmp; mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
connect() { ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2; }
act() { name=$1; shift; echo "BEGIN $name"; "$@" 2>&1; echo "END $name $?"; }
"#;

/// The guest's root file system while it is being made.
#[derive(Debug)]
pub struct Guest {
    work: TempDir,
    machine: Machine,
}

impl Guest {
    /// A root with the usual directories, a shell and its tools.
    pub fn new() -> Result<Self> {
        let guest = Self::of(Machine::Same)?;
        for dir in ["bin", "usr/bin"] {
            fs::create_dir_all(guest.root().join(dir))?;
        }
        fs::copy(BUSYBOX, guest.root().join("bin/busybox"))?;
        std::os::unix::fs::symlink("busybox", guest.root().join("bin/sh"))?;
        Ok(guest)
    }

    /// A root of a Debian for AArch64, as far as its packages are unpacked.
    pub fn arm64() -> Result<Self> {
        let guest = Self::of(Machine::Arm64)?;
        process::output(Command::new("cp").args(["-a", "--reflink=auto"]).arg(Machine::Arm64.kernel()?.join("usr")).arg(guest.root()))?;
        fs::remove_dir_all(guest.root().join("usr/lib/modules"))?;
        for dir in ["bin", "sbin", "lib"] {
            std::os::unix::fs::symlink(format!("usr/{dir}"), guest.root().join(dir))?;
        }
        std::os::unix::fs::symlink("busybox", guest.root().join("usr/bin/sh"))?;
        Ok(guest)
    }

    fn of(machine: Machine) -> Result<Self> {
        let guest = Self { work: tempfile::Builder::new().prefix("torbox-vm-").tempdir()?, machine };
        for dir in ["dev", "proc", "sys", "tmp", "run", "etc", "root", "home"] {
            fs::create_dir_all(guest.root().join(dir))?;
        }
        Ok(guest)
    }

    /// Where the root lies on this machine.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.work.path().join("root")
    }

    /// Makes a user with subordinate ids, the only one beside root.
    pub fn add_user(&self, name: &str, id: u32) -> Result<()> {
        self.write("/etc/passwd", &format!("root:x:0:0::/root:/bin/sh\n{name}:x:{id}:{id}::{HOME}/{name}:/bin/sh\n"), 0o644)?;
        self.write("/etc/group", &format!("root:x:0:\n{name}:x:{id}:\n"), 0o644)?;
        ["/etc/subuid", "/etc/subgid"].iter().try_for_each(|file| self.write(file, &format!("{name}:100000:65536\n"), 0o644))
    }

    /// Writes a file of the root.
    pub fn write(&self, path: &str, text: &str, mode: u32) -> Result<()> {
        let file = self.inside(path)?;
        fs::write(&file, text)?;
        Ok(fs::set_permissions(&file, fs::Permissions::from_mode(mode))?)
    }

    /// Copies a program of this machine and the libraries that it needs (ldd(1)) to where they are here, or the program to `path`.
    pub fn install(&self, program: &Path, path: Option<&str>) -> Result<()> {
        let here = program.display().to_string();
        self.copy(program, path.unwrap_or(&here))?;
        let listed = Command::new("ldd").arg(program).output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            self.copy(Path::new(library), library)?;
        }
        Ok(())
    }

    /// Copies a directory to `path` and gives all of it to `owner`.
    pub fn take(&self, dir: &Path, path: &str, owner: u32) -> Result<()> {
        let target = self.inside(path)?;
        process::output(Command::new("cp").arg("-a").arg("--reflink=auto").arg(dir).arg(&target))?;
        process::output(Command::new("chown").arg("-R").arg(format!("{owner}:{owner}")).arg(&target)).map(drop)
    }

    /// Compiles a profile of AppArmor's for the guest's kernel to `path`, which is what that loads (apparmor_parser(8)).
    pub fn compile_profile(&self, profile: &str, path: &str) -> Result<()> {
        let root = kept_dir()?.join("kernel");
        let [source, compiled] = ["tmp/profile", "tmp/compiled"].map(|name| root.join(name));
        fs::write(&source, profile).with_context(|| format!("cannot write {}: make out/kernel", source.display()))?;
        let mut parser = Command::new("chroot");
        parser.arg(&root).args(["/usr/lib64/ld-linux-x86-64.so.2", "/usr/sbin/apparmor_parser", "--skip-kernel-load", "--skip-cache"]);
        process::output(parser.args(["--features-file", "/etc/apparmor.d/abi/4.0", "--ofile", "/tmp/compiled", "/tmp/profile"]))?;
        fs::copy(&compiled, self.inside(path)?).with_context(|| format!("cannot read {}", compiled.display())).map(drop)
    }

    /// Makes a directory of `owner`.
    pub fn make_dir(&self, path: &str, owner: u32) -> Result<()> {
        let dir = self.inside(path)?;
        fs::create_dir_all(&dir)?;
        Ok(chown(dir, Some(owner), Some(owner))?)
    }

    fn copy(&self, from: &Path, path: &str) -> Result<()> {
        let target = self.inside(path)?;
        // fs::copy keeps the mode, and with it newuidmap's set-user-ID bit.
        fs::copy(from, &target).with_context(|| format!("cannot copy {}", from.display())).map(drop)
    }

    fn inside(&self, path: &str) -> Result<PathBuf> {
        let file = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("no directory")?)?;
        Ok(file)
    }

    /// Boots with `script` behind [`BEGIN`] as the first process, which must end with `poweroff -f`; what it printed. With a `place` it reaches what that
    /// reaches, through QEMU's own network: it is 10.0.2.15 there, and its way out is 10.0.2.2.
    pub fn run(self, script: &str, place: Option<&Namespace>) -> Result<String> {
        self.run_until(script, place, |_| false)
    }

    /// The same with an end as soon as what it printed `is_enough`.
    pub fn run_until(self, script: &str, place: Option<&Namespace>, is_enough: impl Fn(&str) -> bool) -> Result<String> {
        self.write("/init", &format!("{BEGIN}{script}"), 0o755)?;
        let kernel = self.machine.kernel()?;
        let (disk, loader, console) = (self.work.path().join("disk"), self.work.path().join("loader"), self.work.path().join("console"));
        process::output(Command::new("mkfs.ext4").args(["-q", "-d"]).arg(self.root()).arg(&disk).arg("3G"))?;
        self.make_loader(&kernel, &loader)?;
        let (qemu, machine, printed) = self.machine.emulator();
        let (mut qemu, network) = place.map_or_else(|| (Command::new(qemu), "none"), |place| (place.command(qemu), "user,model=virtio-net-pci"));
        qemu.args(machine).args(["-m", "6144", "-nodefaults", "-no-reboot", "-display", "none", "-nic", network]);
        qemu.arg("-kernel").arg(file_in(&kernel.join("boot"), "vmlinuz-")?).arg("-initrd").arg(&loader);
        qemu.arg("-append").arg(format!("console={printed} quiet loglevel=3 panic=-1"));
        qemu.arg("-serial").arg(format!("file:{}", console.display()));
        qemu.arg("-drive").arg(format!("file={},format=raw,if=none,id=disk,cache=unsafe", disk.display())).args(["-device", "virtio-blk-pci,drive=disk"]);
        let mut child = qemu.stdin(Stdio::null()).spawn().context("cannot run qemu")?;
        let said = || wait::text_so_far(&console).replace('\r', "");
        let ended = wait::retry(Duration::from_millis(100), Instant::now() + PATIENCE, || match child.try_wait() {
            Ok(None) => is_enough(&said()).then_some(Ok(())),
            Ok(Some(_)) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        child.kill()?;
        child.wait()?;
        let said = said();
        ensure!(ended.transpose()?.is_some(), "the guest did not end within {PATIENCE:?}; it said:\n{said}");
        Ok(said)
    }

    /// A file system in memory with the modules and [`LOADER`] (cpio(5), "New ASCII Format").
    fn make_loader(&self, kernel: &Path, archive: &Path) -> Result<()> {
        let root = self.work.path().join("loading");
        for dir in ["bin", "dev", "new", "modules"] {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::copy(self.machine.busybox()?, root.join("bin/busybox"))?;
        fs::write(root.join("init"), LOADER)?;
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
        for (number, module) in MODULES.iter().enumerate() {
            let found = Command::new("find").arg(kernel.join("usr/lib/modules")).args(["-name", &format!("{module}.ko.xz")]).output()?;
            // What is not there as a module is part of the kernel.
            if let Some(path) = String::from_utf8_lossy(&found.stdout).lines().next() {
                let target = fs::File::create(root.join("modules").join(format!("{number}-{module}.ko")))?;
                let unpacked = Command::new("xz").args(["-dc", path]).stdout(target).status()?;
                ensure!(unpacked.success(), "cannot unpack {path}");
            }
        }
        let pack = format!("cd {} && find . | {BUSYBOX} cpio -o -H newc > {}", root.display(), archive.display());
        process::output(Command::new("sh").args(["-c", &pack])).map(drop)
    }
}

fn file_in(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("{} is not there: make out/kernel", dir.display()))?;
    let mut found = entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    found.next().map(|entry| entry.path()).with_context(|| format!("no {prefix}* in {}", dir.display()))
}
