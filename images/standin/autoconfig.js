// Tells Firefox to read mozilla.cfg, which stands where Tor Browser's own launcher would be.
pref("general.config.filename", "mozilla.cfg");
pref("general.config.obscure_value", 0);
// The configuration sets a variable of the environment, which the sandboxed kind cannot.
pref("general.config.sandbox_enabled", false);
