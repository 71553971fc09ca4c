"""Fixtures of the tests of pages."""

from tests.support.browser import browser as browser
