"""Gets the source distributions that a lock names, by their hashes, and runs nothing of them.

`pip download` would: to learn a source distribution's metadata it starts its build backend. So this asks the index
itself (PEP 503, PEP 691) the way pip would, with pip's own settings, and only writes files. Whoever started it hashes
what it wrote once more. The one argument is a file of JSON, see `sdist.rs`; standard library only, python 3.9.
"""

import ast
import base64
import hashlib
import html.parser
import json
import netrc
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ENDINGS = ('.tar.gz', '.zip')
ACCEPT = 'application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1'
CHUNK = 1 << 18


class Missing(Exception):
    """What to say when a file can't be had."""


def pip_settings(pip):
    """Returns what pip is configured to, by its own word: its files, and its variables before them."""
    answer = subprocess.run([*pip, 'config', 'list'], stdout=subprocess.PIPE, text=True, check=True).stdout
    found = {}
    for section in ('global', 'download', ':env:'):
        for line in answer.splitlines():
            key, equals, value = line.partition('=')
            if equals and key.startswith(section + '.'):
                found[key[len(section) + 1:]] = str(ast.literal_eval(value))
    return found


def pip_default_index(pip):
    """Returns the index that pip asks when nobody says which, from its help: no other place tells."""
    answer = subprocess.run(
        [*pip, '--isolated', 'download', '--help'],
        stdout=subprocess.PIPE, text=True, check=True,
        env={key: value for key, value in os.environ.items() if not key.startswith('PIP_')} | {'COLUMNS': '500'},
    ).stdout
    match = re.search(r'--index-url <url>.*?\(default\s+(\S+?)\)', answer, re.DOTALL)
    if not match:
        raise Missing('pip does not say which index it asks; set [build.index] url')
    return match[1]


class Client:
    """Fetches over http(s), with pip's proxy, certificates and credentials."""

    def __init__(self, settings):
        self.timeout = float(settings.get('timeout') or settings.get('default-timeout') or 15)
        self.tries = 1 + int(settings.get('retries') or 2)
        self.trusted = {host.lower() for host in settings.get('trusted-host', '').split()}
        self.settings = settings
        self.passwords = {}
        try:
            self.netrc = netrc.netrc(os.environ.get('NETRC') or None)
        except (OSError, netrc.NetrcParseError):
            self.netrc = None

    def context(self, host):
        context = ssl.create_default_context()
        bundle = self.settings.get('cert') or os.environ.get('REQUESTS_CA_BUNDLE') or os.environ.get('CURL_CA_BUNDLE')
        if bundle:
            where = 'capath' if os.path.isdir(bundle) else 'cafile'
            context.load_verify_locations(**{where: bundle})
        if self.settings.get('client-cert'):
            context.load_cert_chain(self.settings['client-cert'])
        if host in self.trusted or host.partition(':')[0] in self.trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def plain(self, url):
        """Takes the credentials out of an address, and remembers them for its host."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ('http', 'https') or not parts.hostname:
            raise Missing(f'{shown(url)} is no http or https address')
        login, at, host = parts.netloc.rpartition('@')
        if at:
            user, _, password = login.partition(':')
            self.passwords[host] = (urllib.parse.unquote(user), urllib.parse.unquote(password))
        elif host not in self.passwords and self.netrc and self.netrc.authenticators(parts.hostname):
            user, _, password = self.netrc.authenticators(parts.hostname)
            self.passwords[host] = (user or '', password or '')
        return urllib.parse.urlunsplit(parts._replace(netloc=host))

    def request(self, url, accept):
        url = self.plain(url)
        request = urllib.request.Request(url, headers={'Accept': accept, 'User-Agent': 'venvd'})
        login = self.passwords.get(urllib.parse.urlsplit(url).netloc)
        if login:
            # Unredirected: another host is not told this one's password.
            word = base64.b64encode(':'.join(login).encode()).decode()
            request.add_unredirected_header('Authorization', f'Basic {word}')
        return request

    def open(self, url, accept='*/*'):
        client = self

        class Redirect(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, request, file, code, message, headers, address):
                # With the new host's own credentials, and only to a web address.
                return client.request(urllib.parse.urljoin(request.full_url, address), accept)

        proxy = self.settings.get('proxy')
        proxies = {'http': proxy, 'https': proxy} if proxy else None
        opener = urllib.request.OpenerDirector()
        request = self.request(url, accept)
        for handler in (
            urllib.request.ProxyHandler(proxies),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=self.context(urllib.parse.urlsplit(request.full_url).netloc.lower())),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            Redirect(),
        ):
            opener.add_handler(handler)
        for again in range(self.tries):
            try:
                return opener.open(request, timeout=self.timeout)
            except urllib.error.HTTPError as error:
                if error.code < 500 or again + 1 == self.tries:
                    raise
            except OSError:
                if again + 1 == self.tries:
                    raise
            time.sleep(0.25 * 2 ** again)


class Anchors(html.parser.HTMLParser):
    """Collects the links of a page."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.links = []

    def handle_starttag(self, tag, attributes):
        target = dict(attributes).get('href')
        if not target:
            return
        if tag == 'base':
            self.base = urllib.parse.urljoin(self.base, target)
        elif tag == 'a':
            self.links.append(urllib.parse.urljoin(self.base, target.strip()))


def links_of_page(address, kind, text):
    """Returns (address, sha256 or None) of the files that a page names."""
    if kind == 'application/vnd.pypi.simple.v1+json':
        return [
            (urllib.parse.urljoin(address, file['url']), (file.get('hashes') or {}).get('sha256'))
            for file in json.loads(text)['files']
        ]
    anchors = Anchors(address)
    anchors.feed(text)
    links = []
    for link in anchors.links:
        link, _, fragment = link.partition('#')
        digest = dict(urllib.parse.parse_qsl(fragment)).get('sha256')
        links.append((link, digest))
    return links


def normal(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def ending(file_name):
    return next((ending for ending in ENDINGS if file_name.endswith(ending)), None)


def may_be(file_name, wanted):
    """Returns whether a file's name is one that a source distribution of what is wanted may have."""
    end = ending(file_name)
    return bool(end) and normal(file_name[:-len(end)]).startswith(normal(wanted['name']) + '-')


def shown(address):
    """Returns an address without its credentials."""
    return re.sub(r'//[^/@]*@', '//', address)


class Places:
    """Where to look, in this order: directories, pages with links, indexes."""

    def __init__(self, task):
        settings = pip_settings(task['pip'])
        self.client = Client(settings)
        offline = task['no_index'] or settings.get('no-index', '').lower() in ('1', 'true', 'yes', 'on')
        self.found = [*task['find_links'], *settings.get('find-links', '').split()]
        self.indexes = []
        if not offline:
            first = task['index'] or settings.get('index-url') or pip_default_index(task['pip'])
            self.indexes = [first, *settings.get('extra-index-url', '').split()]
        self.pages = {}

    def of(self, wanted):
        """Yields (place, links) until the caller has enough."""
        for place in self.found:
            place = urllib.request.url2pathname(place[len('file://'):]) if place.startswith('file://') else place
            if '://' in place:
                yield place, self.page(place)
            elif os.path.isdir(place):
                yield place, [(os.path.join(place, name), None) for name in sorted(os.listdir(place))]
            elif os.path.isfile(place):
                with open(place, encoding='utf-8') as file:
                    yield place, links_of_page('file://' + os.path.abspath(place), 'text/html', file.read())
        for index in self.indexes:
            place = index.rstrip('/') + f'/{normal(wanted["name"])}/'
            yield place, self.page(place)

    def page(self, address):
        if address not in self.pages:
            self.pages[address] = self.read_page(address)
        return self.pages[address]

    def read_page(self, address):
        try:
            with self.client.open(address, ACCEPT) as answer:
                text = answer.read().decode(answer.headers.get_content_charset() or 'utf-8')
                return links_of_page(answer.geturl(), answer.headers.get_content_type(), text)
        except urllib.error.HTTPError as error:
            # What one index does not have, another may.
            print(f'{shown(address)}: {error}', flush=True)
            if error.code in (404, 410):
                return []
            raise Missing(f'{shown(address)} answers {error.code} {error.reason}') from error
        except (OSError, ValueError, KeyError) as error:
            raise Missing(f'{shown(address)}: {error}') from error

    def open(self, link):
        if link.startswith('/'):
            return open(link, 'rb')
        if link.startswith('file://'):
            return open(urllib.request.url2pathname(link[len('file://'):]), 'rb')
        return self.client.open(link)


def save(source, target, hashes):
    """Writes a file, and returns whether it has one of the hashes."""
    digest, size = hashlib.sha256(), 0
    with open(target, 'wb') as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
    if digest.hexdigest() in hashes:
        return True
    os.remove(target)
    return False


def get(places, wanted, to):
    # As pip says it, for who shows how the download goes on.
    print(f'Collecting {wanted["name"]}=={wanted["version"]}', flush=True)
    looked, seen = [], []
    for place, links in places.of(wanted):
        looked.append(shown(place))
        for link, digest in links:
            file_name = os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(link).path))
            if not may_be(file_name, wanted):
                continue
            seen.append(file_name)
            if digest and digest.lower() not in wanted['hashes']:
                continue
            # Without a hash on the page, the version decides what is worth a try.
            if not digest and normal(wanted['version']) not in normal(file_name):
                continue
            print(f'Downloading {file_name}', flush=True)
            target = os.path.join(to, f'{wanted["name"]}-{wanted["version"]}{ending(file_name)}')
            try:
                with places.open(link) as source:
                    if save(source, target, wanted['hashes']):
                        return
            except OSError as error:
                raise Missing(f'{shown(link)}: {error}') from error
            print(f'{shown(link)} has none of the hashes of the lock', flush=True)
    raise Missing(
        f'no source distribution of {wanted["name"]} {wanted["version"]} with a hash of the lock is at '
        f'{", ".join(looked) or "any place (there is none to look at)"}; the last of {len(seen)} that are there: '
        f'{", ".join(seen[-3:]) or "none"}'
    )


def main():
    with open(sys.argv[1], encoding='utf-8') as file:
        task = json.load(file)
    try:
        places = Places(task)
        for wanted in task['wanted']:
            get(places, wanted, task['to'])
    except (Missing, subprocess.CalledProcessError) as error:
        print(f'ERROR: {error}', flush=True)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
