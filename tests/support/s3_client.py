"""A small S3 client for tests, with a signature version 4 of its own: the oracle beside libcurl's."""

import datetime
import hashlib
import hmac
import http.client
import re
import urllib.parse


class S3:
    def __init__(self, port, access_key, secret_key, region="us-east-1", bucket="bucket"):
        self.port, self.access_key, self.secret_key, self.region = port, access_key, secret_key, region
        self.bucket = bucket

    def request(self, method, path, query=(), body=b""):
        """(status, body)"""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        host = f"127.0.0.1:{self.port}"
        path = urllib.parse.quote(path)
        query = "&".join(f"{k}={urllib.parse.quote(v, safe='')}" for k, v in sorted(query))
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now}
        names = ";".join(sorted(headers))
        canonical = "\n".join([method, path, query, *(f"{k}:{headers[k]}" for k in sorted(headers)), "", names, digest])
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = b"AWS4" + self.secret_key.encode()
        for part in (now[:8], self.region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, "
                                    f"Signature={signature}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path + (f"?{query}" if query else ""), body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def make_bucket(self):
        status, text = self.request("PUT", f"/{self.bucket}")
        assert status == 200, text

    def get(self, key):
        status, data = self.request("GET", f"/{self.bucket}/{key}")
        assert status == 200, (status, data)
        return data

    def put(self, key, data):
        status, text = self.request("PUT", f"/{self.bucket}/{key}", body=data)
        assert status == 200, text

    def delete(self, key):
        status, text = self.request("DELETE", f"/{self.bucket}/{key}")
        assert status == 204, text

    def keys(self, prefix=""):
        keys, query = [], [("list-type", "2"), ("prefix", prefix)]
        while True:
            status, text = self.request("GET", f"/{self.bucket}", query)
            assert status == 200, text
            keys += re.findall(r"<Key>([^<]*)</Key>", text.decode())
            token = re.search(r"<NextContinuationToken>([^<]*)</", text.decode())
            if not token:
                return keys
            query = query[:2] + [("continuation-token", token[1])]
