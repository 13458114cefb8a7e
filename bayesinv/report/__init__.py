"""Report: pictures and one self-contained page about a posterior or an evaluation."""

from bayesinv.report.page import html_table as html_table
from bayesinv.report.posterior import Section as Section
from bayesinv.report.posterior import write as write
