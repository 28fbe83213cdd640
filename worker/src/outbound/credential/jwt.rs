//! JSON Web Tokens signed by RSA with SHA-256 (RFC 7515, RFC 7519, `RS256`).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// A key of 2,048 to 4,096 bits from a PEM text: `PRIVATE KEY` (PKCS#8) or `RSA PRIVATE KEY` (PKCS#1).
pub(super) fn key(pem: &str) -> Result<RsaKeyPair, &'static str> {
    // In an environment variable lines are often written with \n.
    let pem = pem.replace("\\n", "\n");
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "is no private key in PEM")?;
    let key = match &der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err("is no RSA key"),
    };
    key.map_err(|_| "is no RSA key of 2048 to 4096 bits")
}

/// The claims, signed. `kid` names the key where the other side has several.
pub(super) fn sign(key: &RsaKeyPair, kid: Option<&str>, claims: &Value) -> Result<String, &'static str> {
    let mut header = json!({"alg": "RS256", "typ": "JWT"});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encoded(&header), encoded(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message.as_bytes(),
        &mut signature,
    )
    .map_err(|_| "cannot sign")?;
    Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::super::tests::{KEY_PKCS1, KEY_PKCS8};
    use super::*;

    #[test]
    fn what_is_signed_can_be_verified() {
        for pem in [
            KEY_PKCS1.clone(),
            KEY_PKCS8.clone(),
            KEY_PKCS8.replace('\n', "\\n"),
        ] {
            let key = key(&pem).unwrap();
            let token = sign(&key, Some("k1"), &json!({"iss": "1"})).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
                .verify(message.as_bytes(), &signature)
                .unwrap();
            let header = BASE64_URL_SAFE_NO_PAD
                .decode(message.split('.').next().unwrap())
                .unwrap();
            let header: Value = serde_json::from_slice(&header).unwrap();
            assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
        }
    }

    #[test]
    fn keys_that_are_none() {
        let cut = &KEY_PKCS1[..KEY_PKCS1.len() / 2];
        let certificate = KEY_PKCS8.replace("PRIVATE KEY", "CERTIFICATE");
        for bad in [
            "",
            "hunter2",
            cut,
            &certificate,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        ] {
            let said = key(bad).unwrap_err();
            assert!(!said.contains("hunter2"));
        }
    }
}
