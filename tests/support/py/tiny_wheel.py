"""Makes a wheel of one module, the same bytes each time, and puts it into a folder, in S3 or a local one.

    tiny_wheel.py --folder F --name N --version V --body TEXT

Prints {"file": name of the wheel, "sha256": its digest}.
"""
import argparse, base64, hashlib, io, json, zipfile

import aws

EPOCH = (2026, 1, 1, 0, 0, 0)


def main():
    parser = argparse.ArgumentParser()
    for name in ("folder", "name", "version", "body"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    dist = f"{options.name}-{options.version}.dist-info"
    files = {
        f"{options.name}.py": options.body,
        f"{dist}/METADATA": f"Metadata-Version: 2.1\nName: {options.name}\nVersion: {options.version}\n",
        f"{dist}/WHEEL": "Wheel-Version: 1.0\nGenerator: tiny\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(text.encode())}")
    record.append(f"{dist}/RECORD,,")
    files[f"{dist}/RECORD"] = "\n".join(record) + "\n"
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name, EPOCH), text)
    file = f"{options.name}-{options.version}-py3-none-any.whl"
    aws.put(options.folder, file, body.getvalue())
    print(json.dumps({"file": file, "sha256": hashlib.sha256(body.getvalue()).hexdigest()}))


main()
