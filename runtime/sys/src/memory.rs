//! madvise(2), malloc_trim(3): memory that only a program's start needed.
//!
//! No crate has malloc_trim(3), and none can know of a mapping that no Rust value owns whether it may go.

use std::fs;
use std::ops::Range;

/// Gives back the code and the free heap of this process that it does not use now; what it uses again is read from its file again. What
/// cannot be given back stays.
pub fn give_back_memory() {
    for Range { start, end } in intact(&fs::read_to_string("/proc/self/smaps").unwrap_or_default()) {
        // SAFETY: the mapping is private, of a file, cannot be written to and holds no page that differs from the file: the kernel reads
        // a page that is missed from the file, with the same bytes.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: it frees only what free(3) was given, and locks each arena.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The mappings whose every page is a file's (proc_pid_smaps(5)): not writable, and without an anonymous page.
fn intact(smaps: &str) -> impl Iterator<Item = Range<usize>> {
    let mut candidate = None;
    smaps.lines().filter_map(move |line| {
        if let Some(anonymous) = line.strip_prefix("Anonymous:") {
            return candidate.take().filter(|_| anonymous.trim() == "0 kB");
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [range, "r-xp" | "r--p", _, _, inode, _path] = words.as_slice() && *inode != "0" {
            candidate = range.split_once('-').and_then(|(start, end)| Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?));
        } else if words.len() >= 5 && words.first().is_some_and(|word| word.contains('-')) {
            candidate = None;
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_in_its_file_goes() {
        let mapping = |range: &str, mode: &str, inode: &str, anonymous: &str| format!("{range} {mode} 00000000 fe:00 {inode} /program\nRss: 8 kB\nAnonymous: {anonymous} kB\n");
        let smaps = [
            mapping("1000-3000", "r-xp", "7", "0"),
            mapping("3000-4000", "r--p", "7", "4"),
            mapping("4000-5000", "rw-p", "7", "0"),
            mapping("5000-6000", "r--p", "0", "0"),
            mapping("6000-7000", "r--p", "7", "0"),
        ];
        assert_eq!(intact(&smaps.concat()).collect::<Vec<_>>(), [0x1000..0x3000, 0x6000..0x7000]);
    }

    #[test]
    fn the_program_goes_on_with_less() {
        let resident = || fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse::<usize>().unwrap();
        let before = resident();
        give_back_memory();
        assert!(resident() < before, "{before} pages before, {} after", resident());
    }
}
