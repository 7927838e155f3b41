#!/usr/bin/env python3
"""Makes the keys and the golden tokens in this folder; needs the package `cryptography`.

The keys are for tests only. The tokens are signed by OpenSSL, not by the library under test. A new run makes new keys.
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

HERE = Path(__file__).parent
SECRET = bytes(range(64))
CLAIMS = {"sub": "alice", "iss": "https://id.example", "aud": "signaling", "exp": 2000000000}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def save(name, key):
    """One key: private as PKCS#8, public as SubjectPublicKeyInfo."""
    (HERE / f"{name}.private.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key()
    (HERE / f"{name}.public.pem").write_bytes(
        public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return key


def fixed(signature, size):
    r, s = decode_dss_signature(signature)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


rsa_key = save("rsa", rsa.generate_private_key(65537, 2048))
p256 = save("p256", ec.generate_private_key(ec.SECP256R1()))
p384 = save("p384", ec.generate_private_key(ec.SECP384R1()))
ed = save("ed25519", ed25519.Ed25519PrivateKey.generate())
other = save("other-p256", ec.generate_private_key(ec.SECP256R1()))

# Keys that must be refused.
save("secp256k1", ec.generate_private_key(ec.SECP256K1()))
save("rsa-1024", rsa.generate_private_key(65537, 1024))
(HERE / "rsa.pkcs1.pem").write_bytes(
    rsa_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.PKCS1
    )
)

HASH = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def sign(alg, message):
    kind, bits = alg[:2], alg[2:]
    if kind == "HS":
        return hmac.new(SECRET, message, getattr(hashlib, f"sha{bits}")).digest()
    if kind == "RS":
        return rsa_key.sign(message, padding.PKCS1v15(), HASH[bits])
    if kind == "PS":
        # RFC 7518, 3.5: the salt is as long as the hash.
        pss = padding.PSS(padding.MGF1(HASH[bits]), padding.PSS.DIGEST_LENGTH)
        return rsa_key.sign(message, pss, HASH[bits])
    if alg == "ES256":
        return fixed(p256.sign(message, ec.ECDSA(hashes.SHA256())), 32)
    if alg == "ES384":
        return fixed(p384.sign(message, ec.ECDSA(hashes.SHA384())), 48)
    return ed.sign(message)


tokens = {}
for alg in "HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA Ed25519".split():
    header = b64(json.dumps({"alg": alg, "typ": "JWT"}).encode())
    message = f"{header}.{b64(json.dumps(CLAIMS).encode())}"
    tokens[alg] = f"{message}.{b64(sign(alg, message.encode()))}"
(HERE / "tokens.json").write_text(json.dumps(tokens, indent=2) + "\n")


def number(value):
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def point(key, curve, size):
    n = key.public_key().public_numbers()
    return {"kty": "EC", "crv": curve, "x": b64(n.x.to_bytes(size, "big")), "y": b64(n.y.to_bytes(size, "big"))}


n = rsa_key.public_key().public_numbers()
raw = ed.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
keys = [
    {"kid": "rsa", "use": "sig", "kty": "RSA", "n": number(n.n), "e": number(n.e)},
    {"kid": "pss", "alg": "PS384", "kty": "RSA", "n": number(n.n), "e": number(n.e)},
    {"kid": "p256"} | point(p256, "P-256", 32),
    {"kid": "p384"} | point(p384, "P-384", 48),
    {"kid": "ed", "kty": "OKP", "crv": "Ed25519", "x": b64(raw)},
    {"kid": "secret", "kty": "oct", "alg": "HS256", "k": b64(SECRET)},
]
(HERE / "jwks.json").write_text(json.dumps({"keys": keys}, indent=2) + "\n")
