metadata name = 'Workbook'
metadata description = 'The workbook in the portal: runs by outcome, landed data, waits, throttling, bytes, errors with their remedies, and the events of each run.'

// Parameters

@description('Required. Region for the workbook.')
param location string

@description('Required. Tags for the workbook.')
param tags object

@description('Required. Resource ID of the Log Analytics workspace that receives the telemetry of the app.')
param logAnalyticsWorkspaceId string

@description('Required. Name of the function app. Events from other apps in the workspace are excluded.')
param functionAppName string

@description('Required. Base URL of the API, used in the links to runs.')
param functionAppUri string

@description('Optional. Title of the workbook. Default: Partner billing exports.')
@minLength(1)
param displayName string = 'Partner billing exports'

// Resources

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, functionAppName, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: displayName
    category: 'workbook'
    version: 'Notebook/1.0'
    sourceId: logAnalyticsWorkspaceId
    serializedData: replace(replace(loadTextContent('../workbook/workbook.json'), 'let role = \'\';', 'let role = \'${functionAppName}\';'), 'let api = \'\';', 'let api = \'${functionAppUri}\';')
  }
}
