"""Certificates for tests, made by openssl: each is its own authority."""

import subprocess
from pathlib import Path


def make_certificate(
    folder: Path, name: str = "localhost", *, is_authority: bool = False
) -> tuple[Path, Path]:
    """Write `cert.pem` and `key.pem` into the folder, in the place of those that are there.

    With `is_authority`, clients that trust authorities only trust it too.
    """
    folder.mkdir(exist_ok=True)
    pair = folder / "cert.pem", folder / "key.pem"
    fresh = folder / "new-cert.pem", folder / "new-key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "30", "-subj", f"/CN={name}"),
            *(
                "-addext",
                f"subjectAltName=DNS:{name}",
                "-addext",
                f"basicConstraints=CA:{str(is_authority).upper()}",
            ),
            *("-out", str(fresh[0]), "-keyout", str(fresh[1])),
        ],
        check=True,
        capture_output=True,
    )
    for source, target in zip(fresh, pair, strict=True):
        source.rename(target)
    return pair
