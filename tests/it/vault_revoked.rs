//! Revocation lists of a directory of CAs, as a grid host has them, and the bed's own Vault under a certificate that is on one.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use testkit::site::VAULT;

use crate::{
    bed::bed,
    mtk::{Operator, Ran},
};

/// A directory with the bed's CA under its hashed name, and the means to write that CA's list.
struct Directory {
    dir: tempfile::TempDir,
    hash: String,
}

impl Directory {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = bed().layout().ca();
        let hash = openssl(&["x509", "-noout", "-hash", "-in"], &[&authority]);
        let hash = hash.trim().to_owned();
        std::fs::copy(&authority, dir.path().join(format!("{hash}.0"))).unwrap();
        let kept = |file: &str| dir.path().join(file).display().to_string();
        let config = format!(
            "[ca]\ndefault_ca = ours\n[ours]\ndatabase = {}\ncrlnumber = {}\ndefault_md = sha256\n\
             default_crl_days = 30\ncrl_extensions = list\n[list]\nauthorityKeyIdentifier = keyid\n",
            kept("index"),
            kept("number"),
        );
        std::fs::write(dir.path().join("ca.cnf"), config).unwrap();
        std::fs::write(dir.path().join("index"), "").unwrap();
        std::fs::write(dir.path().join("number"), "01\n").unwrap();
        Self { dir, hash }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn authority(&self, what: &[&str], files: &[&Path]) {
        let layout = bed().layout();
        let config = self.file("ca.cnf");
        let key = layout.dir.join("vault").join("ca.key");
        let authority = layout.ca();
        let words = ["-config", "-keyfile", "-cert"].into_iter();
        let mut command = Command::new("openssl");
        command.arg("ca");
        for (word, file) in words.zip([&config, &key, &authority]) {
            command.arg(word).arg(file);
        }
        let output = command.args(what).args(files).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn write_list(&self) {
        let list = self.file(&format!("{}.r0", self.hash));
        self.authority(&["-gencrl", "-out"], &[&list]);
    }

    fn revoke_vault(&self) {
        let (certificate, _) = bed().layout().certificate(VAULT.server);
        self.authority(&["-revoke"], &[&certificate]);
        self.write_list();
    }

    /// How the doctor finds Vault's certificate.
    fn doctor(&self, crl: &str) -> Ran {
        let text = std::fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
        let config = format!(
            "mtk: {{vault: {{caDir: {}, crl: {crl}}}}}\n{text}",
            self.dir.path().display()
        );
        let operator = Operator::with(&config);
        let words = [
            "doctor",
            "nova_production",
            "--node",
            "gss.mtk.test",
            "--output",
            "json",
        ];
        operator.mtk(&words)
    }

    #[track_caller]
    fn is(&self, crl: &str, health: &str, found: &str) {
        let ran = self.doctor(crl);
        let json: Value = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|e| panic!("{crl}: {e}: {}{}", ran.stdout, ran.stderr));
        let checks = json["checks"].as_array().unwrap();
        let vault = checks.iter().find(|c| c["hop"] == "vault").unwrap();
        assert_eq!(vault["health"], health, "{crl}: {vault}");
        assert!(vault["found"].as_str().unwrap().contains(found), "{crl}: {vault}");
    }
}

fn openssl(what: &[&str], files: &[&Path]) -> String {
    let output = Command::new("openssl").args(what).args(files).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn lists_count_as_asked() {
    let directory = Directory::new();
    directory.is("present", "good", "believed");
    let none = directory.doctor("required");
    assert_eq!(none.code, Some(2), "{}", none.stdout);
    assert!(none.stderr.contains("list"), "{}", none.stderr);

    directory.write_list();
    directory.is("required", "good", "believed");
    directory.revoke_vault();
    for crl in ["present", "required"] {
        directory.is(crl, "failed", "Revoked");
    }
    directory.is("off", "good", "believed");
}
