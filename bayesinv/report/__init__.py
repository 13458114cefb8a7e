"""Report: what was found as pictures and one self-contained page."""

from bayesinv.report.page import html_table as html_table
from bayesinv.report.posterior import Section as Section
from bayesinv.report.posterior import write as write
