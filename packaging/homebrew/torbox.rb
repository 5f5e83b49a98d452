# A template: `make manifests` writes out/dist/homebrew/torbox.rb with the address and the digest of a release in it.
# The release is for Linux on x86_64: torbox for macOS is not released yet.
class Torbox < Formula
  desc "Runs Tor Browser in a box that does not know who you are"
  homepage "@HOMEPAGE@"
  url "@URL@"
  sha256 "@SHA256@"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on arch: :x86_64
  depends_on :linux

  def install
    bin.install "bin/torbox"
    # torbox looks for the programs of its images beside itself: ../libexec/torbox.
    libexec.install "libexec/torbox"
    man1.install Dir["share/man/man1/*"]
    bash_completion.install "share/bash-completion/completions/torbox"
    zsh_completion.install "share/zsh/site-functions/_torbox"
    fish_completion.install "share/fish/vendor_completions.d/torbox.fish"
  end

  def caveats
    <<~EOS
      Without root torbox needs newuidmap and newgidmap of your distribution (Debian: uidmap),
      and a range of ids in /etc/subuid and /etc/subgid. `torbox doctor` says what is missing.
    EOS
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/torbox --version")
  end
end
