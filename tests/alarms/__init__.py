"""The alarms and the workbook, offline: what the app really says, recorded; each query parsed by Microsoft's own parser and
run by a Kusto engine over that recording and over nights that are made of it. Nothing here has run on Azure.
"""
