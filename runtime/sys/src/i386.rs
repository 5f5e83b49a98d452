//! int80h: a system call of 32-bit code from a 64-bit program (syscall(2), "Architecture calling conventions").
//!
//! No crate makes them. A filter that looks at 64-bit calls alone is gone round this way: socketcall(2) exists only here.

/// getpid(2) by its 32-bit number; whether the kernel answered. A filter that refuses other architectures ends the process.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn getpid_answers() -> bool {
    const GETPID: i64 = 20;
    let mut register = GETPID;
    // SAFETY: getpid takes no argument and touches no memory. On this path the kernel clears r8 to r11, which are declared as
    // changed; rax carries number and result. Where the kernel has no 32-bit calls, the instruction ends the process by a signal.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") register, out("r8") _, out("r9") _, out("r10") _, out("r11") _, options(nostack));
    }
    register > 0
}
