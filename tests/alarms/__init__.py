"""Offline tests for the alerts and the workbook.

Microsoft's parser checks each query. A Kusto engine runs the queries on recorded events of the app
and on scenarios that the tests derive from them. The tests do not use Azure.
"""
